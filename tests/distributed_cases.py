"""What the ranks of tests/test_distributed.py do: every case in one set of processes for each world size."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from distributed_losses import LOSSES, UNEVEN_GROUPS, own_leaves
from torch import Tensor


class Case(NamedTuple):
    """A loss and how it is distributed."""

    loss: str
    strategy: str
    grad_reduction: str = "mean"
    dtype: torch.dtype = torch.float32
    wire_dtype: torch.dtype | None = None
    backend: str | None = None
    workspace_bytes: int = 1 << 20

    def __str__(self) -> str:
        changed = [str(value) for value, usual in zip(self, Case("", ""), strict=True) if value != usual]
        return "-".join(changed).replace("torch.", "")

    def groups(self, world: int) -> list[list[int]]:
        """Whose lines meet."""
        if self.strategy == "by_size":
            return [list(range(start, start + world // 2)) for start in range(0, world, world // 2)]
        return UNEVEN_GROUPS[world] if self.strategy == "grouped" else [list(range(world))]

    def how(self, world: int) -> dict[str, object]:
        """The options of the distributed loss."""
        options: dict[str, object] = {"strategy": self.strategy, "grad_reduction": self.grad_reduction}
        if self.strategy == "by_size":
            options |= {"strategy": "grouped", "group_size": world // 2}
        elif self.strategy == "grouped":
            options["groups"] = UNEVEN_GROUPS[world]
        if self.wire_dtype is not None:
            options["wire_dtype"] = self.wire_dtype
        return options | {"backend": self.backend, "workspace_bytes": self.workspace_bytes}


STRATEGIES = ("gather", "ring", "shard", "grouped")


def cases(world: int) -> list[Case]:
    """Every loss with every strategy, and one option at a time."""
    usual = [Case(loss, strategy) for loss in LOSSES for strategy in STRATEGIES]
    others = [Case("clip_smoothed", strategy, "sum") for strategy in STRATEGIES]
    others += [Case("with_biases", strategy, "sum") for strategy in STRATEGIES]
    if world == 3:
        for strategy in STRATEGIES:
            others += [
                Case("clip", strategy, dtype=torch.float64),
                Case("clip", strategy, dtype=torch.bfloat16),
                Case("clip_smoothed", strategy, wire_dtype=torch.bfloat16),
                Case("clip_frozen_images", strategy, wire_dtype=torch.float16),
                Case("with_biases", strategy, backend="eager"),
                Case("clip", strategy, workspace_bytes=0),
            ]
    if world == 4:
        others += [Case("clip", "by_size"), Case("sup_con", "by_size")]
    return usual + others


def value_and_gradients(case: Case, rank: int, world: int, **how: object) -> dict[str, Tensor]:
    """The loss of a rank, and the gradients of all its leaves."""
    leaves = own_leaves(world, rank, case.dtype)
    value = LOSSES[case.loss].many(leaves, **case.how(world) | how)
    wanted = {name: leaf for name, leaf in leaves.items() if leaf.requires_grad}
    grads = torch.autograd.grad(value, list(wanted.values()), allow_unused=True, materialize_grads=True)
    return {"value": value.detach(), **dict(zip(wanted, grads, strict=True))}


SUBGROUP = [1, 3]  # of a world of four: ranks of the group are not those of the world


def run(rank: int, world: int) -> dict[str, Any]:
    """Each case twice; and some among the members of a subgroup alone."""
    found: dict[str, Any] = {
        str(case): [value_and_gradients(case, rank, world) for _ in range(2)] for case in cases(world)
    }
    if world == 4:
        group = dist.new_group(SUBGROUP)
        if rank in SUBGROUP:
            for strategy in STRATEGIES:
                groups = {"groups": [[0, 1]]} if strategy == "grouped" else {}
                found[f"subgroup-{strategy}"] = value_and_gradients(
                    Case("clip_smoothed", strategy), rank, world, group=group, **groups
                )
    return found

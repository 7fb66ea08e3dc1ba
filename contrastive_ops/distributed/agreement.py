"""Before any tensor moves, every rank checks its own input and all learn whether all agree: all go on, or all raise.

One all-gather of four integers: did this rank refuse its input, a digest of what must be the same everywhere, and its
numbers of rows and columns. Texts travel only where something is wrong. It is the one thing that the host reads: with a
group of NCCL alone it waits for the device once (docs/distributed.md).
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import torch
import torch.distributed as dist
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack

from contrastive_ops.backends import select_backend
from contrastive_ops.distributed.collectives import Ranks, all_gather_lines
from contrastive_ops.distributed.convention import check_grad_reduction
from contrastive_ops.distributed.groups import rank_groups, subgroup
from contrastive_ops.form import flatten
from contrastive_ops.ops.transforms import refuse_trace, requires_grad
from contrastive_ops.problem import Problem

Strategy = Literal["gather", "ring", "shard", "grouped"]
STRATEGIES: tuple[str, ...] = get_args(Strategy)
WIRE_DTYPES = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Distribution:
    """The options that all distributed functions share."""

    strategy: str
    group: dist.ProcessGroup | None = None
    group_size: int | None = None
    groups: Sequence[Sequence[int]] | None = None
    wire_dtype: torch.dtype | None = None
    grad_reduction: str = "mean"

    def check(self, size: int) -> tuple[tuple[int, ...], ...]:
        """The rank groups of a process group of that size; raises for options that do not fit."""
        if self.strategy not in STRATEGIES:
            raise ValueError(f"strategy must be one of {', '.join(STRATEGIES)}, got {self.strategy!r}")
        if self.wire_dtype not in (None, *WIRE_DTYPES):
            raise ValueError(f"wire_dtype must be None, torch.float16 or torch.bfloat16, got {self.wire_dtype}")
        check_grad_reduction(self.grad_reduction)
        if self.strategy == "grouped":
            return rank_groups(size, self.group_size, self.groups)
        if self.group_size is not None or self.groups is not None:
            raise ValueError(
                f'group_size and groups belong to strategy "grouped", got strategy={self.strategy!r} '
                f"with group_size={self.group_size}, groups={self.groups}"
            )
        return (tuple(range(size)),)

    def rows_travel(self, problem: Problem) -> bool:
        """Shards of columns stay where they are. Else a frozen side travels: nothing has to come back for it."""
        return self.strategy == "shard" or (
            requires_grad(problem.cols.vectors) and not requires_grad(problem.rows.vectors)
        )


class Task(NamedTuple):
    """What this rank brings, validated: its own lines, and what else must be the same on every rank."""

    problem: Problem
    backend: str | None
    facts: dict[str, object]


class Team(NamedTuple):
    """The ranks whose lines meet in one score matrix, how many rows and columns each has, and which of them travel."""

    ranks: Ranks
    row_counts: list[int]
    col_counts: list[int]
    rows_travel: bool  # the columns do otherwise


def agree(name: str, distribution: Distribution, prepare: Callable[[], Task]) -> tuple[Task, Team]:
    """Run `prepare` on every rank of the group; its task and the ranks to work with, or an error on every rank.

    Raises:
        what `prepare` raised, on the rank where it did; elsewhere a ValueError with that rank and its words.
        ValueError: where ranks differ in what must be the same, naming what and which ranks have which.
    """
    refuse_trace()
    everyone = Ranks.of(distribution.group)
    task, failure = None, None
    facts: dict[str, object] = {"function": name}
    groups: tuple[tuple[int, ...], ...] = ()
    try:
        groups = distribution.check(everyone.size)
        task = prepare()
        select_backend(task.problem.with_batch(), task.backend)
        facts |= _common(distribution, groups, task)
    except Exception as error:
        failure = error
    rows, columns = (0, 0) if task is None else (x.vectors.shape[-2] for x in (task.problem.rows, task.problem.cols))
    with temporarily_clear_interpreter_stack():  # plain tensors inside transforms of torch.func too
        header = torch.tensor([[failure is not None, _digest(facts), rows, columns]], device=everyone.host_device)
        refused, digests, row_counts, col_counts = all_gather_lines(header, [1] * everyone.size, everyone).T.tolist()
        if any(refused) or len(set(digests)) > 1:
            _raise_everywhere(everyone, failure, facts)
    assert task is not None
    members = next(members for members in groups if everyone.rank in members)
    team = Team(
        ranks=subgroup(everyone, members),
        row_counts=[row_counts[rank] for rank in members],
        col_counts=[col_counts[rank] for rank in members],
        rows_travel=distribution.rows_travel(task.problem),
    )
    if distribution.wire_dtype is not None:
        task = task._replace(problem=_rounded(task.problem, team.rows_travel, distribution.wire_dtype))
    return task, team


def _common(distribution: Distribution, groups: tuple[tuple[int, ...], ...], task: Task) -> dict[str, object]:
    problem = task.problem
    grad = torch.is_grad_enabled()
    embeddings = problem.rows.vectors
    return {
        "strategy": distribution.strategy,
        "groups": groups,
        "wire_dtype": distribution.wire_dtype,
        "grad_reduction": distribution.grad_reduction,
        "dtype of the features": problem.dtype,
        "embedding size D": embeddings.shape[-1],
        "number of vectors of an item": len(problem.with_batch().pairs),
        "device type": embeddings.device.type,
        "form of the problem": flatten(problem, 0).form,
        "diagonals": flatten(problem, 0).numbers,
        "inputs that require grad": tuple(
            leaf.gradient for leaf, tensor in problem.leaves() if leaf.gradient and grad and requires_grad(tensor)
        ),
        **task.facts,
    }


def _rounded(problem: Problem, rows_travel: bool, wire_dtype: torch.dtype) -> Problem:
    """The travelling features as every rank sees them, their owner included; the gradient passes unrounded."""
    problem = problem.with_two_sides()
    side = problem.rows if rows_travel else problem.cols
    features = side.vectors
    rounded = side._replace(vectors=features + (features.to(wire_dtype).to(features.dtype) - features).detach())
    return problem._replace(rows=rounded) if rows_travel else problem._replace(cols=rounded)


def _digest(facts: dict[str, object]) -> int:
    """63 bits of what was said; equal texts have equal digests."""
    return int.from_bytes(hashlib.blake2b(repr(facts).encode(), digest_size=8).digest(), "big") >> 1


def _raise_everywhere(everyone: Ranks, failure: Exception | None, facts: dict[str, object]) -> None:
    said: list[Any] = [None] * everyone.size
    text = None if failure is None else f"{type(failure).__name__}: {failure}"
    dist.all_gather_object(said, (text, {key: str(value) for key, value in facts.items()}), group=everyone.group)
    if failure is not None:
        raise failure
    refusals = [f"rank {rank} refused its input: {text}" for rank, (text, _) in enumerate(said) if text is not None]
    if refusals:
        raise ValueError("; ".join(refusals))
    for key in dict.fromkeys(key for _, facts in said for key in facts):
        ranks_by_value = defaultdict(list)
        for rank, (_, facts) in enumerate(said):
            ranks_by_value[facts.get(key)].append(rank)
        if len(ranks_by_value) > 1:
            got = ", ".join(f"{value} on rank {', '.join(map(str, who))}" for value, who in ranks_by_value.items())
            raise ValueError(f"the ranks differ in {key}, expected the same on every rank, got {got}")
    raise AssertionError("the digests differ, but not what was digested")

"""What the ranks of tests/test_distributed_functions.py do: gradients by torch.func, and what it does not offer."""

from __future__ import annotations

from typing import Any

import torch
from distributed_losses import LOSSES, Leaves, Loss, own_leaves
from torch import Tensor
from torch.utils.checkpoint import checkpoint

STRATEGIES = ("gather", "ring", "shard")


def run(rank: int, world: int) -> dict[str, Any]:
    """What `ways` finds of every loss with every strategy."""
    return {
        f"{name}-{strategy}": ways(loss, own_leaves(world, rank), strategy)
        for name, loss in LOSSES.items()
        for strategy in STRATEGIES
    }


def ways(loss: Loss, leaves: Leaves, strategy: str) -> tuple[Leaves, Leaves, Leaves, list[str]]:
    """(gradients by autograd, by torch.func.grad, under a checkpoint; what forward mode and vmap say)."""
    trained = {key: leaf for key, leaf in leaves.items() if leaf.requires_grad}
    plain = {key: leaf.detach() for key, leaf in trained.items()}
    pairs = {key: torch.stack((leaf, leaf)) for key, leaf in plain.items()}

    def value(given: Leaves) -> Tensor:
        return loss.many(leaves | given, strategy=strategy)

    def gradients(of: Tensor) -> Leaves:
        grads = torch.autograd.grad(of, list(trained.values()), allow_unused=True, materialize_grads=True)
        return dict(zip(trained, grads, strict=True))

    refusals = []
    for attempt in (lambda: torch.func.jvp(value, (plain,), (plain,)), lambda: torch.func.vmap(value)(pairs)):
        try:
            attempt()
        except RuntimeError as error:
            refusals.append(str(error))
    recomputed = gradients(checkpoint(value, trained, use_reentrant=False))
    return gradients(value(trained)), torch.func.grad(value)(plain), recomputed, refusals

"""The gradient convention, stated and applied here alone.

Let L be the loss of one process on the concatenated batch of all W ranks. Every rank returns L. Each rank runs backward
on it, and a trainer then reduces the gradients of every parameter over the ranks: of the encoders, of the scale, of
a bias, alike. The reduced gradient is dL/dparameter:

    grad_reduction="mean"    where the trainer takes the mean, as DDP and FSDP do: (1/W) sum_r grad_r = dL/dparameter
    grad_reduction="sum"     where it takes the sum:                                     sum_r grad_r = dL/dparameter

How: the statistics of all ranks are one function of the features of all ranks, and their backward is its exact
transpose. So with an upstream gradient of F on every rank's own share of the loss, features get F dL/dfeatures, and
rank r's copy of a shared number (the scale) gets F times r's part of dL/dscale; the parts add up to the whole. F = W
for "mean" and F = 1 for "sum" makes both right at once. No other factor exists in this package.

The upstream gradient of L (a loss weight, a loss scale) must be the same on every rank.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
import torch.distributed as dist
from torch import Tensor

from contrastive_ops.distributed.collectives import Ranks
from contrastive_ops.ops.rule import Rule

GradReduction = Literal["mean", "sum"]
GRAD_REDUCTIONS: tuple[str, ...] = get_args(GradReduction)


def check_grad_reduction(grad_reduction: str) -> None:
    """Raise unless it is known."""
    if grad_reduction not in GRAD_REDUCTIONS:
        raise ValueError(f"grad_reduction must be one of {', '.join(GRAD_REDUCTIONS)}, got {grad_reduction!r}")


def mean_over_ranks(
    losses: Tensor,
    counted: Tensor | None = None,
    *,
    group: dist.ProcessGroup | None = None,
    grad_reduction: GradReduction = "mean",
) -> Tensor:
    """The mean over all lines of all ranks, the same number on every rank, under the gradient convention.

    Args:
        losses: `[m]`, those of this rank's lines; m may differ from rank to rank and be 0. Lines that are not counted
            must hold 0.
        counted: `[m]` bool, the lines that the mean is over; None counts all.
        group: the ranks whose gradients the trainer reduces; None for all.
        grad_reduction: what the trainer does with the gradients of the ranks, "mean" or "sum".

    Returns:
        0-dim, in the dtype of the losses; 0 where no line is counted.
    """
    check_grad_reduction(grad_reduction)
    ranks = Ranks.of(group)
    count = losses.new_full((), losses.numel(), dtype=torch.float64) if counted is None else counted.sum()
    mean: Tensor
    (mean,) = _MeanOverRanks.apply(losses.sum(), count, ranks, grad_reduction)
    return mean


class _MeanOverRanks(Rule):
    @staticmethod
    def run(total: Tensor, count: Tensor, ranks: Ranks, grad_reduction: str) -> tuple[tuple[Tensor], tuple[Tensor]]:
        both = torch.stack((total.double(), count.double()))
        dist.all_reduce(both, group=ranks.group)
        count = both[1].clamp(min=1.0)
        weight = (ranks.size if grad_reduction == "mean" else 1) / count
        return ((both[0] / count).to(total.dtype),), (weight,)

    @staticmethod
    def keep(ctx: Any, args: Any, outputs: Any, kept: tuple[Tensor]) -> None:
        ctx.save_for_backward(*kept)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        (weight,) = ctx.saved_tensors
        return (upstream * weight).to(upstream.dtype), None, None, None

"""CLIP over the batches of all ranks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from contrastive_ops.distributed.agreement import Distribution, Strategy, Task, agree
from contrastive_ops.distributed.collectives import SumOverRanks
from contrastive_ops.distributed.convention import GradReduction, mean_over_ranks
from contrastive_ops.distributed.statistics import local_problem, statistics_of_team
from contrastive_ops.losses._checks import check_number
from contrastive_ops.losses._common import check_pairs, named_scale
from contrastive_ops.losses._relations import matching_pairs
from contrastive_ops.losses._smoothing import smooth
from contrastive_ops.ops import cross_entropy_of_positive
from contrastive_ops.ops.statistics import statistics_reductions
from contrastive_ops.problem import DEFAULT_WORKSPACE_BYTES
from contrastive_ops.relations import Relation


def clip_loss(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: float | Tensor,
    *,
    strategy: Strategy,
    group: dist.ProcessGroup | None = None,
    group_size: int | None = None,
    groups: Sequence[Sequence[int]] | None = None,
    grad_reduction: GradReduction = "mean",
    label_smoothing: float = 0.0,
    negatives: Relation | None = None,
    wire_dtype: torch.dtype | None = None,
    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES,
    backend: str | None = None,
) -> Tensor:
    """`contrastive_ops.clip_loss` of the concatenated batch of all ranks.

    With "grouped", a pair's candidates are those of its rank group, and the loss is the mean over all pairs.

    Args:
        image_features, text_features: this rank's `[n, D]`; n may differ from rank to rank and be 0.
        logit_scale: the same number on every rank; a tensor receives its gradient.
        strategy, group, group_size, groups, grad_reduction, wire_dtype: see `contrastive_ops.distributed`.
        label_smoothing: e in [0, 1), spread over the candidates of all ranks (of the rank group with "grouped").
        negatives: pairs (i, j != i) that compete, None for all. `different(ids)` with this rank's ids `[n]` leaves
            duplicates out of each other's negatives, on whatever ranks they are.
        workspace_bytes, backend: as in one process.

    Returns:
        The same 0-dim loss on every rank, float32 (float64 for float64 features). Nothing is detached.

    Raises:
        ValueError, TypeError: on every rank, where one of them has bad input or they differ in what must agree.
    """
    distribution = Distribution(strategy, group, group_size, groups, wire_dtype, grad_reduction)

    def prepare() -> Task:
        check_pairs("image_features", image_features, "text_features", text_features)
        smoothing = check_number("label_smoothing", label_smoothing, 0.0, 1.0)
        problem = local_problem(
            image_features,
            text_features,
            statistics_reductions(*matching_pairs(negatives), columns=True),
            scale=named_scale("logit_scale", logit_scale, image_features),
            workspace_bytes=workspace_bytes,
        )
        return Task(problem, backend, {"label_smoothing": smoothing})

    task, team = agree("clip_loss", distribution, prepare)
    row_lse, positive, col_lse, _ = statistics_of_team(task, team, distribution)
    assert row_lse is not None and positive is not None and col_lse is not None
    losses = cross_entropy_of_positive(torch.stack((row_lse, col_lse)), positive).mean(0)
    if label_smoothing:
        # as in one process; the mean over the candidates of all ranks needs no more than two sums of D numbers
        image, text = (x.to(losses.dtype) for x in (task.problem.rows.vectors, task.problem.cols.vectors))
        (sums,) = SumOverRanks.apply(torch.stack((image.sum(0), text.sum(0))), team.ranks)
        mean_image, mean_text = sums / max(sum(team.row_counts), 1)
        means = task.problem.scale * ((image * mean_text).sum(1) + (text * mean_image).sum(1)) / 2
        losses = smooth(losses, positive, means, label_smoothing)
    return mean_over_ranks(losses, group=group, grad_reduction=grad_reduction)

"""SupCon over the batches of all ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from contrastive_ops.check import check_matrix
from contrastive_ops.distributed.agreement import Distribution, Strategy, Task, agree
from contrastive_ops.distributed.carriers import Carrier
from contrastive_ops.distributed.convention import GradReduction, mean_over_ranks
from contrastive_ops.distributed.statistics import carrier_for, local_problem, statistics_of_team
from contrastive_ops.losses._checks import check_ids
from contrastive_ops.losses._common import inverse_temperature
from contrastive_ops.losses._counts import count_same
from contrastive_ops.losses._labels import is_labelled
from contrastive_ops.losses._relations import labelled_pairs
from contrastive_ops.ops.rule import Rule
from contrastive_ops.ops.statistics import statistics_reductions
from contrastive_ops.problem import DEFAULT_WORKSPACE_BYTES


def sup_con(
    features: Tensor,
    labels: Tensor,
    *,
    strategy: Strategy,
    temperature: float | Tensor = 0.07,
    ignore_index: int = -1,
    group: dist.ProcessGroup | None = None,
    group_size: int | None = None,
    groups: Sequence[Sequence[int]] | None = None,
    grad_reduction: GradReduction = "mean",
    wire_dtype: torch.dtype | None = None,
    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES,
    backend: str | None = None,
) -> Tensor:
    """`contrastive_ops.sup_con` of the concatenated batch of all ranks: items of one label are positives of one another
    wherever they are.

    Image and text features of pairs, concatenated on each rank with the ids of the pairs as labels, make this a CLIP
    loss with several positives, where duplicates of an id on other ranks are positives and never negatives.

    Args:
        features: this rank's `[n, D]`; n may differ from rank to rank and be 0.
        labels: this rank's `[n]` integers, compared across ranks.
        strategy, group, group_size, groups, grad_reduction, wire_dtype: see `contrastive_ops.distributed`.
        temperature: > 0, the same number on every rank; a tensor receives its gradient.
            On a GPU, where it is not read, 0 or less gives NaN or turns the order around, not an error.
        ignore_index, workspace_bytes, backend: as in one process.

    Returns:
        The mean over the anchors that have a positive, the same 0-dim number on every rank, float32 (float64 for
        float64 features). Nothing is detached.

    Raises:
        ValueError, TypeError: on every rank, where one of them has bad input or they differ in what must agree.
    """
    distribution = Distribution(strategy, group, group_size, groups, wire_dtype, grad_reduction)

    labelled: Tensor

    def prepare() -> Task:
        nonlocal labels, labelled
        check_matrix("features", features)
        labels = check_ids("labels", labels, features.shape[0])
        problem = local_problem(
            features,
            features,
            statistics_reductions(*labelled_pairs(labels)),
            scale=inverse_temperature(temperature, features),
            workspace_bytes=workspace_bytes,
        )
        labelled = is_labelled(labels, ignore_index)
        return Task(problem, backend, {"ignore_index": ignore_index})

    task, team = agree("sup_con", distribution, prepare)
    row_lse, positive_sum, _, _ = statistics_of_team(task, team, distribution)
    assert row_lse is not None and positive_sum is not None
    (count,) = _CountPositives.apply(labels, carrier_for(distribution, team.col_counts, team))
    has_positive = (count > 0) & labelled
    # an anchor alone in all batches has lse = -inf: replaced before it meets a gradient
    losses = (row_lse - positive_sum / count.clamp(min=1)).masked_fill(~has_positive, 0.0)
    return mean_over_ranks(losses, has_positive, group=group, grad_reduction=grad_reduction)


class _CountPositives(Rule):
    """How many other items of all ranks have the label of each of this rank's."""

    @staticmethod
    def run(labels: Tensor, carrier: Carrier) -> tuple[tuple[Tensor], tuple[()]]:
        count = torch.full_like(labels, -1)  # without the anchor itself
        for (visiting,) in carrier.visits((labels,)):
            count += count_same(labels, visiting)
        return (count,), ()

    @staticmethod
    def keep(*_: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *_: Any) -> tuple[None, None]:
        return None, None

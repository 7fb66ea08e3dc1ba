"""GRAM over the batches of all ranks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from contrastive_ops.check import check_matrix, check_modalities, check_scale
from contrastive_ops.distributed.agreement import Distribution, Strategy, Task, agree
from contrastive_ops.distributed.convention import GradReduction, mean_over_ranks
from contrastive_ops.distributed.statistics import statistics_of_team
from contrastive_ops.losses._checks import check_number
from contrastive_ops.losses._common import inverse_temperature
from contrastive_ops.losses._relations import smoothed_pairs
from contrastive_ops.losses._smoothing import smooth
from contrastive_ops.ops import cross_entropy_of_positive
from contrastive_ops.ops.volume_statistics import volume_problem
from contrastive_ops.problem import DEFAULT_WORKSPACE_BYTES, statistics_dtype


def gram_loss(
    anchor: Tensor,
    modalities: Sequence[Tensor],
    *,
    strategy: Strategy,
    temperature: float | Tensor = 0.07,
    group: dist.ProcessGroup | None = None,
    group_size: int | None = None,
    groups: Sequence[Sequence[int]] | None = None,
    grad_reduction: GradReduction = "mean",
    label_smoothing: float = 0.0,
    detach_keys: bool = False,
    absolute: bool = False,
    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES,
    backend: str | None = None,
) -> Tensor:
    """`contrastive_ops.gram_loss` of the concatenated batch of all ranks.

    What travels of a tuple is an orthonormal basis of its span and a few numbers: a frozen anchor travels in its place,
    and with "shard" the anchors do. There is no `wire_dtype`: a rounded basis is not one.

    Args:
        anchor: this rank's `[n, D]`; n may differ from rank to rank and be 0.
        modalities: a sequence of 1 to 7 tensors `[n, D]` of this rank.
        strategy, group, group_size, groups, grad_reduction: see `contrastive_ops.distributed`.
        temperature: > 0, the same number on every rank; a tensor receives its gradient.
            On a GPU, where it is not read, 0 or less gives NaN or turns the order around, not an error.
        label_smoothing: e in [0, 1), spread over the candidates of all ranks (of the rank group with "grouped").
        detach_keys, absolute, workspace_bytes, backend: as in one process.

    Returns:
        The same 0-dim loss on every rank, float32 (float64 for float64 features). Nothing is detached unless asked for.

    Raises:
        ValueError, TypeError: on every rank, where one of them has bad input or they differ in what must agree.
    """
    distribution = Distribution(strategy, group, group_size, groups, grad_reduction=grad_reduction)

    def cross_entropies(*, rows: bool, columns: bool) -> list[Tensor]:
        """`[n]` for each direction; a single one sends no gradient into its candidates."""
        positive: Tensor

        def prepare() -> Task:
            nonlocal positive
            smoothing = check_number("label_smoothing", label_smoothing, 0.0, 1.0)
            check_matrix("anchor", anchor)
            own, others = check_modalities(anchor, modalities, paired=True)
            scale = check_scale(inverse_temperature(temperature, own), own.device, statistics_dtype(own.dtype)).neg()
            own = own if rows else own.detach()
            others = others if columns else [modality.detach() for modality in others]
            candidates, positives = smoothed_pairs(label_smoothing)
            problem, volume = volume_problem(
                own,
                others,
                scale=scale,
                candidates=candidates,
                positives=positives,
                rows=rows,
                columns=columns,
                absolute=absolute,
                workspace_bytes=workspace_bytes,
                paired=True,
            )
            positive = scale * volume
            return Task(problem, backend, {"label_smoothing": smoothing})

        task, team = agree("gram_loss", distribution, prepare)
        row_lse, row_rest, col_lse, col_rest = statistics_of_team(task, team, distribution)
        losses = []
        for lse, rest in ((row_lse, row_rest), (col_lse, col_rest)):
            if lse is not None:
                loss = cross_entropy_of_positive(lse, positive)
                if rest is not None:
                    mean = (rest + positive) / max(sum(team.row_counts), 1)
                    loss = smooth(loss, positive, mean, label_smoothing)
                losses.append(loss)
        return losses

    if detach_keys:
        losses = cross_entropies(rows=True, columns=False) + cross_entropies(rows=False, columns=True)
    else:
        losses = cross_entropies(rows=True, columns=True)
    return mean_over_ranks(torch.stack(losses).mean(0), group=group, grad_reduction=grad_reduction)

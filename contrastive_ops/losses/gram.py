"""GRAM: contrast by the volume that all modalities of an item span (Cicchetti et al. 2025, arXiv 2412.11959)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from contrastive_ops.backends import check_backend_name
from contrastive_ops.check import check_matrix, check_modalities, check_scale
from contrastive_ops.losses._checks import check_number
from contrastive_ops.losses._common import LossReduction, check_reduction, inverse_temperature, reduce
from contrastive_ops.losses._module import LossModule
from contrastive_ops.losses._relations import smoothed_pairs
from contrastive_ops.losses._smoothing import smooth
from contrastive_ops.ops import cross_entropy_of_positive
from contrastive_ops.ops.statistics import problem_statistics
from contrastive_ops.ops.volume_statistics import volume_problem
from contrastive_ops.problem import DEFAULT_WORKSPACE_BYTES, statistics_dtype


def gram_loss(
    anchor: Tensor,
    modalities: Sequence[Tensor],
    *,
    temperature: float | Tensor = 0.07,
    label_smoothing: float = 0.0,
    detach_keys: bool = False,
    absolute: bool = False,
    reduction: LossReduction = "mean",
    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES,
    backend: str | None = None,
) -> Tensor:
    """Mean of two cross-entropies over volumes: anchor i among the tuples j, and tuple i among the anchors j.

        V_ij = sqrt(det Gram(a_i, x^1_j, ..., x^K_j))        s_ij = -V_ij / temperature
        loss_i = ( CE(s_i., target i) + CE(s_.i, target i) ) / 2

    The volumes of matching tuples, which training makes small, are computed apart and in float64 (`gram_volume`); those
    of all other pairs tile by tile (`volume_statistics`).

    Args:
        anchor: `[N, D]`, the modality that all are tied to (text, in the paper), usually L2-normalised.
        modalities: a sequence of 1 to 7 tensors `[N, D]`; row i of each belongs to anchor i. They move together: a
            negative is the whole tuple of another item.
        temperature: > 0, divides the volumes; float or one-element tensor, which receives its gradient.
            On a GPU, where it is not read, 0 or less gives NaN or turns the order around, not an error.
        label_smoothing: e in [0, 1): the target keeps 1 - e, and e is spread over all N candidates (0.1 in the paper).
        detach_keys: stop the gradient into the candidates, as GRAM's training code does: an anchor learns from its row
            alone, a tuple from its column alone. Two passes instead of one.
        absolute: see `volume_statistics`.
        reduction: "mean", "sum", or "none" for the per-item losses `[N]`.
        workspace_bytes: budget for scores kept from forward for backward.
        backend: see `similarity_statistics`.

    Returns:
        float32 (float64 for float64 inputs). Nothing is detached unless asked for. N = 0 and N = 1 give 0.

    Raises:
        ValueError, TypeError: for shapes, dtypes or options that do not fit, naming got and expected.
    """
    check_reduction(reduction)
    label_smoothing = check_number("label_smoothing", label_smoothing, 0.0, 1.0)
    check_matrix("anchor", anchor)
    anchor, modalities = check_modalities(anchor, modalities, paired=True)
    scale = check_scale(inverse_temperature(temperature, anchor), anchor.device, statistics_dtype(anchor.dtype)).neg()
    check_backend_name(backend)
    options: dict[str, Any] = {"absolute": absolute, "workspace_bytes": workspace_bytes, "backend": backend}
    if detach_keys:
        fixed_anchor, fixed = anchor.detach(), [modality.detach() for modality in modalities]
        # one call a line: torch 2.4 compiles no list of both
        of_rows = _cross_entropies(anchor, fixed, scale, label_smoothing, rows=True, columns=False, **options)
        of_columns = _cross_entropies(
            fixed_anchor, modalities, scale, label_smoothing, rows=False, columns=True, **options
        )
        losses = of_rows + of_columns
    else:
        losses = _cross_entropies(anchor, modalities, scale, label_smoothing, rows=True, columns=True, **options)
    return reduce(torch.stack(losses).mean(0), reduction)


def _cross_entropies(
    anchor: Tensor,
    modalities: Sequence[Tensor],
    scale: Tensor,
    label_smoothing: float,
    *,
    backend: str | None,
    **options: Any,
) -> list[Tensor]:
    """`[N]` for each direction that is asked for."""
    candidates, positives = smoothed_pairs(label_smoothing)
    problem, volume = volume_problem(
        anchor,
        modalities,
        scale=scale,
        candidates=candidates,
        positives=positives,
        paired=True,
        **options,
    )
    statistics = problem_statistics(problem, backend)
    positive = scale * volume
    losses = []
    for lse, other_scores in (
        (statistics.row_lse, statistics.row_sum),
        (statistics.col_lse, statistics.col_sum),
    ):
        if lse is None:
            continue
        loss = cross_entropy_of_positive(lse, positive)
        if other_scores is not None:
            loss = smooth(loss, positive, (other_scores + positive) / anchor.shape[0], label_smoothing)
        losses.append(loss)
    return losses


class GramLoss(LossModule):
    """`gram_loss` as a module: `GramLoss(temperature=0.07, label_smoothing=0.1)(anchor, modalities)`."""

    function = staticmethod(gram_loss)

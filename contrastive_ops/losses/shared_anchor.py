"""One anchor and several sets of others, a softmax for each: WhitenedCSE (Zhuo et al. 2023, arXiv 2305.17746), MoRE
(Thapa et al. 2024), and the multi-positive loss of DreamLIP (Zheng et al. 2024, arXiv 2403.17007)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from contrastive_ops.losses._checks import check_choice
from contrastive_ops.losses._common import LossReduction, check_pairs, inverse_temperature
from contrastive_ops.losses._module import LossModule
from contrastive_ops.losses.clip import clip_loss
from contrastive_ops.losses.info_nce import info_nce
from contrastive_ops.problem import DEFAULT_WORKSPACE_BYTES


def shared_anchor_loss(
    anchors: Tensor,
    others: Sequence[Tensor] | Tensor,
    *,
    symmetric: bool = True,
    combine: Literal["sum", "mean"] = "sum",
    temperature: float | Tensor = 0.07,
    reduction: LossReduction = "mean",
    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES,
    backend: str | None = None,
) -> Tensor:
    """Sum (or mean) over the sets Y of the pair loss of anchors and Y: `clip_loss`, or one direction, `info_nce`.

    WhitenedCSE: the other whitened views, not symmetric, sum.  MoRE: X-ray and ECG with the note as anchor, sum.
    DreamLIP: K sub-captions of each image, mean.

    Args:
        anchors: `[N, D]`, usually L2-normalised (nothing is normalised here).
        others: `[S, N, D]` or a sequence of S >= 1 `[N, D]`; row i of each belongs to anchor i.
        symmetric: both directions (their mean), or anchors among others alone.
        combine: "sum" or "mean" over the S sets.
        temperature: > 0, divides the similarities; float or one-element tensor, which receives its gradient.
            On a GPU, where it is not read, 0 or less gives NaN or turns the order around, not an error.
        reduction: "mean", "sum", or "none" for `[N]` losses.
        workspace_bytes, backend: see `similarity_statistics`.

    Returns:
        float32 (float64 for float64 inputs). S passes; sets do not compete with one another.
    """
    check_choice("combine", combine, ("sum", "mean"))
    if len(others) == 0:
        raise ValueError("others must hold at least one set, got none")
    for other in others:
        check_pairs("anchors", anchors, "every set of others", other)
    options: dict[str, Any] = {"reduction": reduction, "workspace_bytes": workspace_bytes, "backend": backend}
    if symmetric:
        scale = inverse_temperature(temperature, anchors)
        losses = [clip_loss(anchors, other, scale, **options) for other in others]
    else:
        losses = [info_nce(anchors, other, temperature=temperature, **options) for other in others]
    total = torch.stack(losses).sum(0)
    return total / len(losses) if combine == "mean" else total


class SharedAnchorLoss(LossModule):
    """`shared_anchor_loss` as a module: `SharedAnchorLoss(symmetric=False)(anchors, others)`."""

    function = staticmethod(shared_anchor_loss)

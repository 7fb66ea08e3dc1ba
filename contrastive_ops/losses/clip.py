"""CLIP: symmetric InfoNCE over image-text pairs (Radford et al. 2021, arXiv 2103.00020)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from contrastive_ops.losses._checks import check_choice, check_number
from contrastive_ops.losses._common import (
    LossReduction,
    check_pairs,
    check_reduction,
    in_statistics_dtype,
    named_scale,
    reduce,
)
from contrastive_ops.losses._directions import pair_cross_entropies
from contrastive_ops.losses._module import LossModule
from contrastive_ops.losses._smoothing import smooth
from contrastive_ops.problem import DEFAULT_WORKSPACE_BYTES
from contrastive_ops.relations import Relation


def clip_loss(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: float | Tensor,
    *,
    label_smoothing: float = 0.0,
    directions: Literal["mean", "sum"] = "mean",
    negatives: Relation | None = None,
    reduction: LossReduction = "mean",
    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES,
    backend: str | None = None,
) -> Tensor:
    """Mean of the image-to-text and text-to-image cross-entropies of matching pairs.

        s_ij = logit_scale * <image_i, text_j>
        loss_i = ( CE(s_i., target i) + CE(s_.i, target i) ) / 2

    Args:
        image_features: `[N, D]`, usually L2-normalised (nothing is normalised here).
        text_features: `[N, D]`; row i belongs to image i.
        logit_scale: multiplies the similarities: `exp` of CLIP's parameter, already taken. Float or one-element
            tensor; a tensor receives its gradient.
        label_smoothing: e in [0, 1): the target keeps 1 - e, and e is spread over all N candidates.
        directions: "mean" of the two cross-entropies, or their "sum" (ALIGN, CoCa, VladVA).
        negatives: pairs (i, j != i) that compete, a `Relation`; None for all. `different(caption_ids)` leaves
            duplicates out of each other's negatives, `same(cluster_ids)` keeps to the own cluster (MCL).
        reduction: "mean", "sum", or "none" for the per-pair losses `[N]`.
        workspace_bytes: budget for scores kept from forward for backward.
        backend: see `similarity_statistics`.

    Returns:
        float32 (float64 for float64 features). Nothing is detached; the product for the gradient of a tower that does
        not require one is skipped. N = 0 and N = 1 give 0, as does a pair without negatives.

    Raises:
        ValueError, TypeError: for shapes, dtypes or options that do not fit, naming got and expected.
    """
    check_reduction(reduction)
    check_choice("directions", directions, ("mean", "sum"))
    check_pairs("image_features", image_features, "text_features", text_features)
    label_smoothing = check_number("label_smoothing", label_smoothing, 0.0, 1.0)
    scale = named_scale("logit_scale", logit_scale, image_features)
    if negatives is not None and label_smoothing:
        raise ValueError(
            "label_smoothing is spread over all N candidates: got it beside negatives, expected one of them"
        )
    rows, columns, positive = pair_cross_entropies(
        image_features, text_features, scale, negatives, workspace_bytes=workspace_bytes, backend=backend
    )
    losses = rows + columns
    if label_smoothing:
        # the mean needs no tile: scale * <image_i, mean_j text_j>
        image, text = in_statistics_dtype(image_features), in_statistics_dtype(text_features)
        # elementwise products: autocast would round a matmul
        means = (image * text.mean(0)).sum(1) + (text * image.mean(0)).sum(1)
        losses = smooth(losses, 2 * positive, scale * means, label_smoothing)
    return reduce(losses / 2 if directions == "mean" else losses, reduction)


class ClipLoss(LossModule):
    """`clip_loss` as a module, called as open_clip's: `loss(image_features, text_features, logit_scale)`."""

    function = staticmethod(clip_loss)

"""SwALIP: CLIP to the Sinkhorn targets of another pair of views (Fini et al. 2023, arXiv 2305.08675)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from contrastive_ops.losses._checks import check_number
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
from contrastive_ops.losses._rows import row_lse
from contrastive_ops.ops.softmax_mean import softmax_mean_and_statistics
from contrastive_ops.plain import plain_int
from contrastive_ops.problem import DEFAULT_WORKSPACE_BYTES
from contrastive_ops.relations import diagonal, off_diagonal
from contrastive_ops.steady import savable


def swalip_loss(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: float | Tensor,
    target_image: Tensor,
    target_text: Tensor,
    *,
    epsilon: float = 0.05,
    iterations: int = 3,
    reduction: LossReduction = "mean",
    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES,
    backend: str | None = None,
) -> Tensor:
    """Both directions' soft cross-entropy to an assignment of images to texts, found by Sinkhorn's iteration.

        s_ij = logit_scale * <image_i, text_j>,  h_ij = <target_image_i, target_text_j> / epsilon
        T_ij = exp(h_ij + f_i + g_j):  g = -LSE_i(h + f) and f = -LSE_j(h + g) in turn, f first 0, T' likewise with h^T
        loss_i = -( sum_j T_ij log softmax_j s_ij + sum_j T'_ij log softmax_j s_ji ) / 2

    T is not stored: sum_j T_ij s_ij = <image_i, sum_j T_ij text_j>, a softmax-weighted mean of the texts.

    Args:
        image_features, text_features: `[N, D]`, usually L2-normalised (nothing is normalised here).
        logit_scale: multiplies the similarities; float or one-element tensor, which receives its gradient.
        target_image, target_text: `[N, E]`, of another pair of views; detached. With two views a of images and b of
            texts the paper takes the mean over the four losses of (a, b) to the targets of (1 - a, 1 - b).
        epsilon: > 0, of the entropic transport.
        iterations: of Sinkhorn, >= 1; each is two passes forward, once for T and once for T'.
        reduction: "mean", "sum", or "none" for `[N]` losses.
        workspace_bytes, backend: see `similarity_statistics`.

    Returns:
        float32 (float64 for float64 features). N = 1 gives 0.
    """
    check_reduction(reduction)
    check_pairs("image_features", image_features, "text_features", text_features)
    check_pairs("target_image", target_image, "target_text", target_text)
    epsilon = check_number("epsilon", epsilon, 0.0, low_belongs=False)
    iterations = plain_int(iterations)
    if not isinstance(iterations, int) or iterations < 1:
        raise ValueError(f"iterations must be an int >= 1, got {iterations}")
    if target_image.shape[0] != image_features.shape[0]:
        raise ValueError(
            f"targets must have the N={image_features.shape[0]} rows of the features, got {target_image.shape[0]}"
        )
    scale = named_scale("logit_scale", logit_scale, image_features)
    options: dict[str, Any] = {"workspace_bytes": workspace_bytes, "backend": backend}
    rows, columns, _ = pair_cross_entropies(image_features, text_features, scale, **options)
    image, text = in_statistics_dtype(image_features), in_statistics_dtype(text_features)
    transport = {"scale": 1.0 / epsilon, **options}
    targets = savable(target_image.detach()), savable(target_text.detach())
    # LSE over all - target score = (cross-entropy of the positive) + s_ii - target score. Where pairs are confident the
    # last two are both near the scale: their difference is formed of what the targets leave to other pairs
    off_text, mean_text = _others(*targets, text, iterations, transport)
    off_image, mean_image = _others(*targets[::-1], image, iterations, transport)
    apart = off_text * (image * (text - mean_text)).sum(1) + off_image * (text * (image - mean_image)).sum(1)
    return reduce((rows + columns + scale * apart) / 2, reduction)


def _others(
    first: Tensor, second: Tensor, values: Tensor, iterations: int, options: dict[str, Any]
) -> tuple[Tensor, Tensor]:
    """(1 - T_ii `[N]`, mean of the values of the other pairs `[N, D]`), so that text_i - sum_j T_ij text_j is
    (1 - T_ii) (text_i - mean_i): a sum over all pairs would round it to the last bit of T_ii, near 1.

    The last f makes each row of T a softmax, so only g is needed.
    """
    with torch.no_grad():
        g = -row_lse(second, first, **options)
        for _ in range(iterations - 1):
            f = -row_lse(first, second, col_bias=g, **options)
            g = -row_lse(second, first, col_bias=f, **options)
    mean, lse, own = softmax_mean_and_statistics(
        first, second, values, col_bias=g, candidates=off_diagonal(), positives=diagonal(), **options
    )
    assert own is not None
    return torch.sigmoid(lse - own), mean


class SwALIPLoss(LossModule):
    """`swalip_loss` as a module: `SwALIPLoss()(image, text, logit_scale, target_image, target_text)`."""

    function = staticmethod(swalip_loss)

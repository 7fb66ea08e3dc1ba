"""CLIP with uniformity and alignment, which closes the Contrastive Gap (Fahim et al. 2024, arXiv 2405.18570)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from contrastive_ops.losses._checks import check_number
from contrastive_ops.losses._common import check_pairs
from contrastive_ops.losses._module import LossModule
from contrastive_ops.losses.clip import clip_loss
from contrastive_ops.losses.uniformity import alignment, cross_uniformity, uniformity
from contrastive_ops.problem import DEFAULT_WORKSPACE_BYTES


def contrastive_gap_loss(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: float | Tensor,
    *,
    t: float = 2.0,
    across: bool = False,
    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES,
    backend: str | None = None,
) -> Tensor:
    """clip_loss + ( uniformity(image) + uniformity(text) ) / 2 + alignment [+ cross_uniformity], equally weighted.

    Args:
        image_features, text_features: `[N, D]`, usually L2-normalised (nothing is normalised here).
        logit_scale: of `clip_loss` alone; float or one-element tensor, which receives its gradient.
        t: of the Gaussians.
        across: whether to add `cross_uniformity` (the paper's CUAXU; without it CUA).
        workspace_bytes, backend: see `similarity_statistics`.

    Returns:
        0-dim, float32 (float64 for float64 features). One pass for `clip_loss`, two triangles, one pass if `across`.
    """
    check_pairs("image_features", image_features, "text_features", text_features)
    t = check_number("t", t, 0.0, low_belongs=False)
    options: dict[str, Any] = {"workspace_bytes": workspace_bytes, "backend": backend}
    total = clip_loss(image_features, text_features, logit_scale, **options)
    total = total + alignment(image_features, text_features)
    total = total + (uniformity(image_features, t=t, **options) + uniformity(text_features, t=t, **options)) / 2
    return total + cross_uniformity(image_features, text_features, t=t, **options) if across else total


class ContrastiveGapLoss(LossModule):
    """`contrastive_gap_loss` as a module: `ContrastiveGapLoss(across=True)(image, text, logit_scale)`."""

    function = staticmethod(contrastive_gap_loss)

"""CLIP-rocket: CLIP over the pairs and over pairs of their augmented views (Fini et al. 2023, arXiv 2305.08675)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from contrastive_ops.losses._common import LossReduction, check_pairs, named_scale
from contrastive_ops.losses._module import LossModule
from contrastive_ops.losses.clip import clip_loss
from contrastive_ops.problem import DEFAULT_WORKSPACE_BYTES


def clip_rocket_loss(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: float | Tensor,
    image_views: Sequence[Tensor] | Tensor,
    text_views: Sequence[Tensor] | Tensor,
    view_scale: float | Tensor,
    *,
    label_smoothing: float = 0.1,
    reduction: LossReduction = "mean",
    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES,
    backend: str | None = None,
) -> Tensor:
    """( CLIP(image, text) + A mean_ab CLIP_smoothed(image view a, text view b) ) / (1 + A), for A views of each.

    Args:
        image_features, text_features: `[N, D]`, usually L2-normalised (nothing is normalised here).
        logit_scale: of the first term; float or one-element tensor, which receives its gradient.
        image_views, text_views: `[A, N, E]` each, or A tensors `[N, E]`; all A x A pairs of views are compared.
        view_scale: of the views; float or one-element tensor, which receives its gradient.
        label_smoothing: of the views alone.
        reduction: "mean", "sum", or "none" for `[N]` losses.
        workspace_bytes, backend: see `similarity_statistics`.

    Returns:
        float32 (float64 for float64 features). A = 0 is `clip_loss`. 1 + A*A passes.
    """
    if len(image_views) != len(text_views):
        raise ValueError(f"expected as many image views as text views, got {len(image_views)} and {len(text_views)}")
    for image, text in zip(image_views, text_views, strict=True):
        check_pairs("every image view", image, "every text view", text)
    views = len(image_views)
    view_scale = named_scale("view_scale", view_scale, image_features)

    def clip(image: Tensor, text: Tensor, scale: float | Tensor, smoothing: float) -> Tensor:
        return clip_loss(
            image,
            text,
            scale,
            label_smoothing=smoothing,
            reduction=reduction,
            workspace_bytes=workspace_bytes,
            backend=backend,
        )

    total = clip(image_features, text_features, logit_scale, 0.0)
    for image in image_views:
        for text in text_views:
            total = total + clip(image, text, view_scale, label_smoothing) / views
    return total / (1 + views)


class ClipRocketLoss(LossModule):
    """`clip_rocket_loss` as a module: `loss(image, text, logit_scale, image_views, text_views, view_scale)`."""

    function = staticmethod(clip_rocket_loss)

"""CLIP: symmetric InfoNCE over image-text pairs (Radford et al. 2021, arXiv 2103.00020)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from contrastive_ops.losses._common import check_pairs, check_reduction, reduce
from contrastive_ops.losses._smoothing import check_label_smoothing, smooth
from contrastive_ops.ops import cross_entropy_of_positive, similarity_statistics
from contrastive_ops.problem import DEFAULT_WORKSPACE_BYTES, autocast, check_scale
from contrastive_ops.relations import diagonal, off_diagonal


def clip_loss(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: float | Tensor,
    *,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
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
        reduction: "mean", "sum", or "none" for the per-pair losses `[N]`.
        workspace_bytes: budget for scores kept from forward for backward.
        backend: see `similarity_statistics`.

    Returns:
        float32 (float64 for float64 features). Nothing is detached. N = 0 and N = 1 give 0.

    Raises:
        ValueError, TypeError: for shapes, dtypes or options that do not fit, naming got and expected.
    """
    check_reduction(reduction)
    check_pairs("image_features", image_features, "text_features", text_features)
    check_label_smoothing(label_smoothing)
    statistics = similarity_statistics(
        image_features,
        text_features,
        scale=logit_scale,
        candidates=off_diagonal(),
        positives=diagonal(),
        rows=True,
        columns=True,
        workspace_bytes=workspace_bytes,
        backend=backend,
    )
    row_lse, positive, col_lse, _ = statistics
    assert row_lse is not None and positive is not None and col_lse is not None
    # [2, N]: both directions; s_ii is the same number for row i and column i
    losses = cross_entropy_of_positive(torch.stack((row_lse, col_lse)), positive)
    if label_smoothing:
        # the mean needs no tile: scale * <image_i, mean_j text_j>
        image, text = (autocast(x).to(losses.dtype) for x in (image_features, text_features))
        scale = check_scale(logit_scale, losses.device, losses.dtype)
        # elementwise products: autocast would round a matmul
        means = scale * ((image * text.mean(0)).sum(1) + (text * image.mean(0)).sum(1)) / 2
        losses = smooth(losses, positive, means, label_smoothing)
    if reduction == "none":
        return losses.mean(0)
    return reduce(losses, reduction) if reduction == "mean" else losses.sum() / 2


class ClipLoss(nn.Module):
    """`clip_loss` as a module, called as open_clip's: `loss(image_features, text_features, logit_scale)`."""

    def __init__(
        self,
        *,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
        workspace_bytes: int = DEFAULT_WORKSPACE_BYTES,
        backend: str | None = None,
    ) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.reduction = reduction
        self.workspace_bytes = workspace_bytes
        self.backend = backend

    def forward(self, image_features: Tensor, text_features: Tensor, logit_scale: float | Tensor) -> Tensor:
        return clip_loss(
            image_features,
            text_features,
            logit_scale,
            label_smoothing=self.label_smoothing,
            reduction=self.reduction,
            workspace_bytes=self.workspace_bytes,
            backend=self.backend,
        )

"""Multi-positive CLIP: all texts of an image's group are its positives, with equal weights (as UniCL, Yang et al. 2022,
arXiv 2204.03610)."""

from __future__ import annotations

import torch
from torch import Tensor

from contrastive_ops.check import check_matrix
from contrastive_ops.losses._checks import check_ids
from contrastive_ops.losses._common import LossReduction, check_reduction, named_scale, reduce_counted
from contrastive_ops.losses._counts import count_same
from contrastive_ops.losses._module import LossModule
from contrastive_ops.ops import similarity_statistics
from contrastive_ops.problem import DEFAULT_WORKSPACE_BYTES
from contrastive_ops.relations import same


def multi_positive_clip_loss(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: float | Tensor,
    image_ids: Tensor,
    text_ids: Tensor,
    *,
    reduction: LossReduction = "mean",
    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES,
    backend: str | None = None,
) -> Tensor:
    """Cross-entropy in both directions to targets that are spread evenly, 1/k each, over the k items of one's group.

        s_ij = logit_scale * <image_i, text_j>,  P(i) = { j : text_id_j == image_id_i }
        loss of image i = log sum_j exp(s_ij) - mean_{p in P(i)} s_ip,  and of text j likewise down its column

    Args:
        image_features, text_features: `[M, D]` and `[N, D]`, usually L2-normalised (nothing is normalised here).
        logit_scale: multiplies the similarities; float or one-element tensor, which receives its gradient.
        image_ids, text_ids: `[M]` and `[N]` integers: the group of each image and of each text; any
            numbers, hashes say, of which none is special.
        reduction: "mean" over the images and texts that have a positive, "sum", or "none" for `[M + N]` losses, images
            first. An anchor without a positive has loss 0 and gradient 0.
        workspace_bytes, backend: see `similarity_statistics`.

    Returns:
        float32 (float64 for float64 features). For groups of one pair it is `clip_loss`. One pass for both directions.
    """
    check_reduction(reduction)
    check_matrix("image_features", image_features)
    check_matrix("text_features", text_features)
    image_ids = check_ids("image_ids", image_ids, image_features.shape[0])
    text_ids = check_ids("text_ids", text_ids, text_features.shape[0])
    row_lse, row_sum, col_lse, col_sum = similarity_statistics(
        image_features,
        text_features,
        scale=named_scale("logit_scale", logit_scale, image_features),
        positives=same(image_ids, text_ids),
        columns=True,
        workspace_bytes=workspace_bytes,
        backend=backend,
    )
    assert row_lse is not None and row_sum is not None and col_lse is not None and col_sum is not None
    count = torch.cat((count_same(image_ids, text_ids), count_same(text_ids, image_ids)))
    losses = torch.cat((row_lse, col_lse)) - torch.cat((row_sum, col_sum)) / count.clamp(min=1)
    has_positive = count > 0
    return reduce_counted(losses.masked_fill(~has_positive, 0.0), has_positive, reduction)


class MultiPositiveClipLoss(LossModule):
    """`multi_positive_clip_loss` as a module: `loss(image, text, logit_scale, image_ids, text_ids)`."""

    function = staticmethod(multi_positive_clip_loss)

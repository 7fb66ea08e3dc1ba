"""V views of N instances, `[V, N, D]`: their ids when laid out as V*N rows, and the scores within an instance."""

from __future__ import annotations

import torch
from torch import Tensor

from contrastive_ops.check import check_embeddings, check_scale, without_autocast
from contrastive_ops.losses._common import in_statistics_dtype
from contrastive_ops.relations import Relation, different


def check_views(views: Tensor) -> None:
    """Raise unless `views` is `[V, N, D]` with at least two views."""
    check_embeddings("views", views)
    if views.dim() != 3 or views.shape[0] < 2:
        raise ValueError(f"views must be [V, N, D] with V >= 2, got shape {tuple(views.shape)}")


def other_instances(views: Tensor, same_view: bool) -> Relation:
    """Between the rows of `views.flatten(0, 1)`: pairs of two instances; of two views also, unless `same_view`."""
    v, n = views.shape[:2]
    instances = different(torch.arange(n, device=views.device).repeat(v))
    if same_view:
        return instances
    return instances & different(torch.arange(v, device=views.device).repeat_interleave(n))


def scores_within_instances(views: Tensor, scale: float | Tensor) -> Tensor:
    """scale * <view a, view b> of each instance, `[N, V, V]` in the statistics dtype: O(V*V*N*D), outside any tile."""
    by_instance = in_statistics_dtype(views).transpose(0, 1)
    with without_autocast(views):  # which would round the product
        return check_scale(scale, views.device, by_instance.dtype) * (by_instance @ by_instance.mT)


def between_views(v: int, device: torch.device) -> Tensor:
    """Pairs of different views, bool `[V, V]`."""
    return ~torch.eye(v, dtype=torch.bool, device=device)

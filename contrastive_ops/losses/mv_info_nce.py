"""MV-InfoNCE (Koromilas et al. 2025, A Principled Framework for Multi-View Contrastive Learning): one softmax for all
views of an instance."""

from __future__ import annotations

import torch
from torch import Tensor

from contrastive_ops.losses._common import LossReduction, check_reduction, inverse_temperature, reduce
from contrastive_ops.losses._module import LossModule
from contrastive_ops.losses._rows import row_lse
from contrastive_ops.losses._views import between_views, check_views, other_instances, scores_within_instances
from contrastive_ops.ops import cross_entropy_of_positive, merged_along
from contrastive_ops.problem import DEFAULT_WORKSPACE_BYTES


def mv_info_nce(
    views: Tensor,
    *,
    temperature: float | Tensor = 0.5,
    same_view_negatives: bool = True,
    reduction: LossReduction = "mean",
    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES,
    backend: str | None = None,
) -> Tensor:
    """All pairs of views of an instance against all pairs that one of its views forms.

        e(a, b) = exp(<a, b> / temperature)
        A_i = sum_{v != w} e(u_vi, u_wi),   B_i = sum_v sum_{w, j != i} e(u_vi, u_wj)
        loss_i = -log( A_i / (A_i + B_i) )

    Args:
        views: `[V, N, D]`, V >= 2 views of N instances, usually L2-normalised (nothing is normalised here).
        temperature: > 0, divides the similarities; float or one-element tensor, which receives its gradient.
            On a GPU, where it is not read, 0 or less gives NaN or turns the order around, not an error.
        same_view_negatives: whether w = v belongs to B_i: True in the authors' code, False in their formula.
        reduction: "mean" over the instances, "sum", or "none" for `[N]` losses.
        workspace_bytes, backend: see `similarity_statistics`.

    Returns:
        float32 (float64 for float64 views). N = 1 gives 0. The upper triangle of the VN x VN scores is visited.
    """
    check_reduction(reduction)
    check_views(views)
    scale = inverse_temperature(temperature, views)
    rows, v = views.flatten(0, 1), views.shape[0]
    negatives = row_lse(
        rows,
        rows,
        scale=scale,
        candidates=other_instances(views, same_view_negatives),
        workspace_bytes=workspace_bytes,
        backend=backend,
    )
    within = scores_within_instances(views, scale).masked_fill(~between_views(v, views.device), -torch.inf)
    losses = cross_entropy_of_positive(merged_along(negatives.unflatten(0, (v, -1)), 0), within.flatten(1).logsumexp(1))
    return reduce(losses, reduction)


class MVInfoNCELoss(LossModule):
    """`mv_info_nce` as a module: `MVInfoNCELoss(temperature=0.5)(views)`."""

    function = staticmethod(mv_info_nce)

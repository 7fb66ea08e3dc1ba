"""Poly-View contrastive learning, the geometric loss (Shidani et al. 2024, arXiv 2403.05490)."""

from __future__ import annotations

from torch import Tensor

from contrastive_ops.losses._common import LossReduction, check_reduction, inverse_temperature, reduce
from contrastive_ops.losses._module import LossModule
from contrastive_ops.losses._rows import row_lse
from contrastive_ops.losses._views import between_views, check_views, other_instances, scores_within_instances
from contrastive_ops.ops import cross_entropy_of_positive
from contrastive_ops.problem import DEFAULT_WORKSPACE_BYTES


def poly_view(
    views: Tensor,
    *,
    temperature: float | Tensor = 0.1,
    same_view_negatives: bool = True,
    reduction: LossReduction = "mean",
    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES,
    backend: str | None = None,
) -> Tensor:
    """Every view of an instance against each other view of it, one at a time, among all views of other instances.

        s = <., .> / temperature
        loss_vi = mean_{w != v} log( 1 + sum_{u, j != i} exp(s(x_vi, x_uj)) / exp(s(x_vi, x_wi)) )

    Args:
        views: `[V, N, D]`, V >= 2 views of N instances, usually L2-normalised (nothing is normalised here).
        temperature: > 0, divides the similarities; float or one-element tensor, which receives its gradient.
            On a GPU, where it is not read, 0 or less gives NaN or turns the order around, not an error.
        same_view_negatives: whether u = v belongs to the negatives.
        reduction: "mean" over the V*N anchors, "sum", or "none" for `[V*N]` losses, the first view's anchors first.
        workspace_bytes, backend: see `similarity_statistics`.

    Returns:
        float32 (float64 for float64 views). N = 1 gives 0. The upper triangle of the VN x VN scores is visited. It is
        the decoupled softmax whose positives are the other views; for V = 2, NT-Xent.
    """
    check_reduction(reduction)
    check_views(views)
    v, n = views.shape[:2]
    rows, scale = views.flatten(0, 1), inverse_temperature(temperature, views)
    relation = other_instances(views, same_view_negatives)
    lse = row_lse(rows, rows, scale=scale, candidates=relation, workspace_bytes=workspace_bytes, backend=backend)
    # [V, N, V]: anchor v of instance n against its view w
    each = cross_entropy_of_positive(lse.view(v, n, 1), scores_within_instances(views, scale).transpose(0, 1))
    others = between_views(v, views.device).unsqueeze(1)
    return reduce(each.masked_fill(~others, 0.0).sum(2).flatten() / (v - 1), reduction)


class PolyViewLoss(LossModule):
    """`poly_view` as a module: `PolyViewLoss(temperature=0.1)(views)`."""

    function = staticmethod(poly_view)

"""MV-DHEL (Koromilas et al. 2025, A Principled Framework for Multi-View Contrastive Learning); for two views it is DHEL
(Koromilas et al. 2024, arXiv 2405.18045)."""

from __future__ import annotations

import torch
from torch import Tensor

from contrastive_ops.losses._common import LossReduction, check_reduction, inverse_temperature, reduce
from contrastive_ops.losses._module import LossModule
from contrastive_ops.losses._rows import row_lse, zero_without_candidates
from contrastive_ops.losses._views import between_views, check_views, scores_within_instances
from contrastive_ops.problem import DEFAULT_WORKSPACE_BYTES
from contrastive_ops.relations import off_diagonal


def mv_dhel(
    views: Tensor,
    *,
    temperature: float | Tensor = 0.5,
    reduction: LossReduction = "mean",
    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES,
    backend: str | None = None,
) -> Tensor:
    """Decoupled hyperspherical energy: negatives within each view alone, positives between the views of an instance.

        e(a, b) = exp(<a, b> / temperature)
        loss_i = sum_v log sum_{j != i} e(u_vi, u_vj) - log sum_{v < w} e(u_vi, u_wi)

    Args:
        views: `[V, N, D]`, V >= 2 views of N instances, usually L2-normalised (nothing is normalised here).
        temperature: > 0, divides the similarities; float or one-element tensor, which receives its gradient.
            On a GPU, where it is not read, 0 or less gives NaN or turns the order around, not an error.
        reduction: "mean" over the instances, "sum", or "none" for `[N]` losses.
        workspace_bytes, backend: see `similarity_statistics`.

    Returns:
        float32 (float64 for float64 views). Unbounded below. N = 1 has no negatives and gives 0. V triangles of N x N
        scores are visited, in one launch. The sum over v < w is taken once; summed both ways it adds log 2.
    """
    check_reduction(reduction)
    check_views(views)
    scale = inverse_temperature(temperature, views)
    energy = row_lse(
        views, views, scale=scale, candidates=off_diagonal(), workspace_bytes=workspace_bytes, backend=backend
    ).sum(0)
    pairs = between_views(views.shape[0], views.device).triu()
    positive = scores_within_instances(views, scale).masked_fill(~pairs, -torch.inf).flatten(1).logsumexp(1)
    return reduce(zero_without_candidates(energy - positive, energy), reduction)


class MVDHELLoss(LossModule):
    """`mv_dhel` as a module: `MVDHELLoss(temperature=0.5)(views)`."""

    function = staticmethod(mv_dhel)

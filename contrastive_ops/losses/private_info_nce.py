"""InfoNCE over candidates of each query's own, such as class-aware prompts (Long et al. 2023, Task-Oriented Multi-Modal
Mutual Learning)."""

from __future__ import annotations

import torch
from torch import Tensor

from contrastive_ops.check import check_embeddings
from contrastive_ops.losses._checks import check_indices
from contrastive_ops.losses._common import LossReduction, check_reduction, inverse_temperature, reduce_counted
from contrastive_ops.losses._module import LossModule
from contrastive_ops.ops import cross_entropy_of_positive
from contrastive_ops.ops.private_scores import private_scores


def private_info_nce(
    queries: Tensor,
    candidates: Tensor,
    targets: Tensor,
    *,
    temperature: float | Tensor = 0.07,
    reduction: LossReduction = "mean",
) -> Tensor:
    """Cross-entropy of one of a query's own C candidates; no other query sees them.

        s_ic = <q_i, k_ic> / temperature,  or <q_ic, k_ic> / temperature where the query differs from class to class
        loss_i = -s_it + log sum_c exp(s_ic),  t = targets[i]

    Args:
        queries: `[M, D]`, or `[M, C, D]` with one for each class, usually L2-normalised (nothing is normalised here).
        candidates: `[M, C, D]`.
        targets: `[M]` integers in [0, C); a negative one (-100) means that the row is ignored, with loss 0.
        temperature: > 0, divides the similarities; float or one-element tensor, which receives its gradient.
            On a GPU, where it is not read, 0 or less gives NaN or turns the order around, not an error.
        reduction: "mean" over the rows that are not ignored, "sum", or "none" for `[M]` losses.

    Returns:
        float32 (float64 for float64 inputs). O(M*C*D), no M x N scores. C = 1 gives 0. Ragged sets: `packed_info_nce`.
    """
    check_reduction(reduction)
    check_embeddings("queries", queries)
    check_embeddings("candidates", candidates)
    m, *_, d = candidates.shape
    if candidates.dim() != 3 or queries.shape != (candidates.shape if queries.dim() == 3 else (m, d)):
        raise ValueError(
            "queries must be [M, D] or [M, C, D] and candidates [M, C, D], "
            f"got shapes {tuple(queries.shape)} and {tuple(candidates.shape)}"
        )
    targets = check_indices("targets", targets, candidates.shape[1], queries.shape[0], negative_ignores=True)
    scores, counted = private_scores(queries, candidates, inverse_temperature(temperature, queries)), targets >= 0
    is_target = torch.arange(scores.shape[1], device=scores.device) == targets[:, None]
    positive = scores.masked_fill(~is_target, 0.0).sum(1)
    losses = cross_entropy_of_positive(scores.masked_fill(is_target, -torch.inf).logsumexp(1), positive)
    return reduce_counted(losses.masked_fill(~counted, 0.0), counted, reduction)


class PrivateInfoNCELoss(LossModule):
    """`private_info_nce` as a module: `PrivateInfoNCELoss(temperature=0.07)(queries, candidates, targets)`."""

    function = staticmethod(private_info_nce)

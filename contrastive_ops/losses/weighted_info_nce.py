"""InfoNCE with weighted keys: logQ correction (Yi et al. 2019, Sampling-bias-corrected neural modeling, RecSys) and
log-weighted negatives."""

from __future__ import annotations

from torch import Tensor

from contrastive_ops.losses._checks import check_vector
from contrastive_ops.losses._common import LossReduction, check_pairs, check_reduction, inverse_temperature, reduce
from contrastive_ops.losses._module import LossModule
from contrastive_ops.losses._rows import row_cross_entropy, row_lse_and_sum
from contrastive_ops.ops import cross_entropy_of_positive
from contrastive_ops.problem import DEFAULT_WORKSPACE_BYTES
from contrastive_ops.relations import diagonal, off_diagonal


def weighted_info_nce(
    queries: Tensor,
    keys: Tensor,
    log_weights: Tensor,
    *,
    weigh_positive: bool = True,
    temperature: float | Tensor = 0.07,
    reduction: LossReduction = "mean",
    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES,
    backend: str | None = None,
) -> Tensor:
    """`info_nce` in which key j counts with the weight w_j.

        s_ij = <q_i, k_j> / temperature
        loss_i = -log( v_i exp(s_ii) / (v_i exp(s_ii) + sum_{j != i} w_j exp(s_ij)) ),   v_i = w_i or 1

    Args:
        queries, keys: `[M, D]`; key i is the positive of query i, usually L2-normalised (nothing is normalised here).
        log_weights: `[M]`, log w_j: minus the log of the probability that sampling took key j, for the logQ
            correction. It receives its gradient.
        weigh_positive: whether the positive has its weight too, as in the logQ correction, or 1.
        temperature: > 0, divides the similarities, not the weights; float or one-element tensor, with gradient.
            On a GPU, where it is not read, 0 or less gives NaN or turns the order around, not an error.
        reduction: "mean", "sum", or "none" for the per-query losses `[M]`.
        workspace_bytes, backend: see `similarity_statistics`.

    Returns:
        float32 (float64 for float64 queries). M = 1 gives 0.
    """
    check_reduction(reduction)
    check_pairs("queries", queries, "keys", keys)
    check_vector("log_weights", log_weights, keys.shape[0])
    options = {
        "scale": inverse_temperature(temperature, queries),
        "col_bias": log_weights,
        "candidates": off_diagonal(),
        "positives": diagonal(),
        "workspace_bytes": workspace_bytes,
        "backend": backend,
    }
    if weigh_positive:
        return row_cross_entropy(queries, keys, reduction, **options)
    lse, positive = row_lse_and_sum(queries, keys, **options)
    return reduce(cross_entropy_of_positive(lse, positive - log_weights.to(lse.dtype)), reduction)


class WeightedInfoNCELoss(LossModule):
    """`weighted_info_nce` as a module: `WeightedInfoNCELoss(temperature=0.07)(queries, keys, log_weights)`."""

    function = staticmethod(weighted_info_nce)

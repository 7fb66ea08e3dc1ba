"""CWCL, continuously weighted contrastive loss (Srinivasa et al. 2023, arXiv 2309.14580)."""

from __future__ import annotations

from torch import Tensor

from contrastive_ops.check import check_scale, without_autocast
from contrastive_ops.losses._common import (
    LossReduction,
    check_pairs,
    check_reduction,
    in_statistics_dtype,
    inverse_temperature,
    reduce,
)
from contrastive_ops.losses._directions import pair_cross_entropies
from contrastive_ops.losses._module import LossModule
from contrastive_ops.problem import DEFAULT_WORKSPACE_BYTES


def cwcl(
    queries: Tensor,
    keys: Tensor,
    *,
    temperature: float | Tensor = 0.07,
    reduction: LossReduction = "mean",
    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES,
    backend: str | None = None,
) -> Tensor:
    """Soft cross-entropy of the trained modality to the similarities of the pre-trained one, and plain InfoNCE back.

        s_ij = <q_i, k_j> / temperature,  w_ij = ( <k_i, k_j> + 1 ) / 2,  W_i = sum_j w_ij
        loss_i = ( log sum_j exp(s_ij) - sum_j w_ij s_ij / W_i ) + ( log sum_j exp(s_ji) - s_ii )

    Args:
        queries: `[N, D]`, the trained modality, usually L2-normalised (nothing is normalised here).
        keys: `[N, D]`, the pre-trained one, L2-normalised, so that w lies in [0, 1]; the weights are detached.
        temperature: > 0, divides the similarities; float or one-element tensor, which receives its gradient.
            On a GPU, where it is not read, 0 or less gives NaN or turns the order around, not an error.
        reduction: "mean", "sum", or "none" for `[N]` losses.
        workspace_bytes, backend: see `similarity_statistics`.

    Returns:
        float32 (float64 for float64 inputs). N = 1 gives 0. The weights factor, so their sums take O(N*D*D) and no
        second matrix:  2 sum_j w_ij k_j = (K^T K) k_i + sum_j k_j.
    """
    check_reduction(reduction)
    check_pairs("queries", queries, "keys", keys)
    scale = inverse_temperature(temperature, queries)
    rows, columns, positive = pair_cross_entropies(
        queries, keys, scale, workspace_bytes=workspace_bytes, backend=backend
    )
    q, k = in_statistics_dtype(queries), in_statistics_dtype(keys)
    frozen = k.detach()
    with without_autocast(q):  # which would round the products
        total = frozen.sum(0)
        weight = (frozen @ total + k.shape[0]) / 2
        # sum_j w_ij k_j also has a gradient in k: K^T applied to the frozen weights, (Kf Kf^T + 1) K / 2
        mean_key = (frozen @ (frozen.mT @ k) + k.sum(0)) / (2 * weight[:, None])
    target_score = check_scale(scale, q.device, q.dtype) * (q * mean_key).sum(1)
    # LSE over all - target = (cross-entropy of the positive) + s_ii - target
    return reduce(rows + (positive - target_score) + columns, reduction)


class CWCLLoss(LossModule):
    """`cwcl` as a module: `CWCLLoss(temperature=0.07)(queries, keys)`."""

    function = staticmethod(cwcl)

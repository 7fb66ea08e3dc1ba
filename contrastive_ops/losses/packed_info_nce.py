"""InfoNCE over packed keys: hard negatives beside each positive (VLM2Vec, Jiang et al. 2024, arXiv 2410.05160; SaHa),
and ragged sets (CoLVA, Zhou et al. 2025, arXiv 2501.04670)."""

from __future__ import annotations

import torch
from torch import Tensor

from contrastive_ops.check import check_matrix
from contrastive_ops.losses._checks import check_indices
from contrastive_ops.losses._common import LossReduction, check_reduction, inverse_temperature, reduce_counted
from contrastive_ops.losses._module import LossModule
from contrastive_ops.losses._rows import row_cross_entropy, row_lse_and_sum
from contrastive_ops.ops import cross_entropy_of_positive
from contrastive_ops.problem import DEFAULT_WORKSPACE_BYTES
from contrastive_ops.relations import different, same


def packed_info_nce(
    queries: Tensor,
    keys: Tensor,
    *,
    targets: Tensor | None = None,
    query_groups: Tensor | None = None,
    key_groups: Tensor | None = None,
    temperature: float | Tensor = 0.02,
    reduction: LossReduction = "mean",
    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES,
    backend: str | None = None,
) -> Tensor:
    """Cross-entropy of one key of each query among all packed keys, or among those of the query's group.

        s_ij = <q_i, k_j> / temperature,  t = targets[i]
        loss_i = -s_it + log( exp(s_it) + sum_{j != t, in the group} exp(s_ij) )

    Args:
        queries: `[M, D]`, usually L2-normalised (nothing is normalised here).
        keys: `[N, D]`: for strided targets N = M * (1 + H), the positive of query i and then its H hard negatives.
        targets: `[M]` integers, the column of each positive; a negative one (-100) means that the row is ignored, with
            loss 0 and gradient 0. None: i * (N / M).
        query_groups, key_groups: `[M]` and `[N]` integers: ragged sets, each query among the keys of its group (on
            the CPU tiles without a common group are skipped, so sorted groups save time). None: all keys.
        temperature: > 0, divides the similarities; float or one-element tensor, which receives its gradient.
            On a GPU, where it is not read, 0 or less gives NaN or turns the order around, not an error.
        reduction: "mean" over the rows that are not ignored, "sum", or "none" for `[M]` losses.
        workspace_bytes, backend: see `similarity_statistics`.

    Returns:
        float32 (float64 for float64 inputs). A query without other candidates has loss 0.
    """
    check_reduction(reduction)
    check_matrix("queries", queries)
    check_matrix("keys", keys)
    m, n = queries.shape[0], keys.shape[0]
    columns = torch.arange(n, device=keys.device)
    strided = targets is None
    if targets is None:
        if m and (n == 0 or n % m):
            raise ValueError(f"without targets N must be a multiple of M, at least M, got M={m}, N={n}")
        targets = columns[:: max(n // max(m, 1), 1)][:m]
    else:
        targets = check_indices("targets", targets, n, m, negative_ignores=True)
    candidates = different(targets, columns)
    if (query_groups is None) != (key_groups is None):
        raise ValueError("query_groups and key_groups go together, got only one of them")
    if query_groups is not None and key_groups is not None:
        candidates = candidates & same(query_groups, key_groups)
    options = {
        "scale": inverse_temperature(temperature, queries),
        "candidates": candidates,
        "positives": same(targets, columns),
        "workspace_bytes": workspace_bytes,
        "backend": backend,
    }
    if strided:
        return row_cross_entropy(queries, keys, reduction, **options)
    counted = targets >= 0
    losses = cross_entropy_of_positive(*row_lse_and_sum(queries, keys, **options))
    return reduce_counted(losses.masked_fill(~counted, 0.0), counted, reduction)


class PackedInfoNCELoss(LossModule):
    """`packed_info_nce` as a module: `PackedInfoNCELoss(temperature=0.02)(queries, keys, targets=None)`."""

    function = staticmethod(packed_info_nce)

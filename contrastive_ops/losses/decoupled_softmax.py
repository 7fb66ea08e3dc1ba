"""Decoupled softmax of DEXML, dual encoders for extreme classification (Gupta et al. 2024, arXiv 2310.10636)."""

from __future__ import annotations

import torch
from torch import Tensor

from contrastive_ops.check import check_matrix
from contrastive_ops.losses._checks import check_ids, check_indices
from contrastive_ops.losses._common import (
    LossReduction,
    check_reduction,
    in_statistics_dtype,
    inverse_temperature,
    paired_scores,
    reduce_counted,
)
from contrastive_ops.losses._counts import count_same
from contrastive_ops.losses._module import LossModule
from contrastive_ops.losses._rows import row_lse
from contrastive_ops.ops import cross_entropy_of_positive
from contrastive_ops.plain import plain_int
from contrastive_ops.problem import DEFAULT_WORKSPACE_BYTES
from contrastive_ops.relations import different


def decoupled_softmax(
    queries: Tensor,
    keys: Tensor,
    query_ids: Tensor,
    key_ids: Tensor,
    *,
    temperature: float | Tensor = 0.05,
    max_positives: int | None = None,
    reduction: LossReduction = "mean",
    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES,
    backend: str | None = None,
) -> Tensor:
    """Mean over a query's positives of the cross-entropy of each against the negatives alone.

        s_ij = <q_i, k_j> / temperature,  P(i) = { j : key_id_j == query_id_i }
        loss_i = mean_{p in P(i)} log( 1 + sum_{j not in P(i)} exp(s_ij) / exp(s_ip) )

    Args:
        queries: `[M, D]`, usually L2-normalised (nothing is normalised here).
        keys: `[N, D]`, the labels' embeddings.
        query_ids, key_ids: `[M]` and `[N]` integers of any value. A query with several positives has them
            under its one id.
        temperature: > 0, divides the similarities; float or one-element tensor, which receives its gradient.
            On a GPU, where it is not read, 0 or less gives NaN or turns the order around, not an error.
        max_positives: no query has more positives than these. None counts them, for which the host waits for the device
            once: give it on a GPU, and to `torch.compile`.
        reduction: "mean" over the queries that have a positive, "sum", or "none" for `[M]` losses. A query without a
            positive has loss 0 and gradient 0.
        workspace_bytes, backend: see `similarity_statistics`.

    Returns:
        float32 (float64 for float64 inputs). A query without negatives has loss 0. The positives are gathered, P =
        `max_positives` for every query: O(M*P*D), meant for few.
    """
    check_reduction(reduction)
    check_matrix("queries", queries)
    check_matrix("keys", keys)
    query_ids = check_ids("query_ids", query_ids, queries.shape[0])
    key_ids = check_ids("key_ids", key_ids, keys.shape[0])
    max_positives = plain_int(max_positives)
    if max_positives is not None and (not isinstance(max_positives, int) or max_positives < 1):
        raise ValueError(f"max_positives must be None or an int >= 1, got {max_positives}")
    scale, pairs = inverse_temperature(temperature, queries), different(query_ids, key_ids)
    # first, so that a host that counts waits for nothing else
    count = count_same(query_ids, key_ids)
    columns, is_positive = _positive_columns(query_ids, key_ids, count, max_positives)
    lse = row_lse(queries, keys, scale=scale, candidates=pairs, workspace_bytes=workspace_bytes, backend=backend)
    # gathered from the wide copy, so that a key of many queries collects its gradient in it
    positive = paired_scores(queries[:, None], in_statistics_dtype(keys)[columns], scale)  # [M, P]
    each = cross_entropy_of_positive(lse[:, None], positive).masked_fill(~is_positive, 0.0)
    return reduce_counted(each.sum(1) / count.clamp(min=1), count > 0, reduction)


def _positive_columns(
    query_ids: Tensor, key_ids: Tensor, count: Tensor, max_positives: int | None
) -> tuple[Tensor, Tensor]:
    """Columns `[M, P]` of the `count` keys with each query's id, padded with 0 where the second tensor is False."""
    if max_positives is None:
        width = int(count.max()) if count.numel() else 0
    else:
        check_indices(f"max_positives={max_positives}: the positives of a query", count, max_positives + 1)
        width = min(max_positives, key_ids.shape[0])
    order = key_ids.to(torch.int64).argsort(stable=True)
    query_ids = query_ids.to(torch.int64)
    first = torch.searchsorted(key_ids.to(torch.int64)[order], query_ids)
    place = torch.arange(width, device=count.device)
    present = place < count[:, None]
    return order[(first[:, None] + place).where(present, 0)], present


class DecoupledSoftmaxLoss(LossModule):
    """`decoupled_softmax` as a module: `DecoupledSoftmaxLoss(temperature=0.05)(queries, keys, query_ids, key_ids)`."""

    function = staticmethod(decoupled_softmax)

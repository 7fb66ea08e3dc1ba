"""InfoNCE (van den Oord et al. 2018, arXiv 1807.03748): one direction, with in-batch or given negatives."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor

from contrastive_ops.backends import check_backend_name
from contrastive_ops.check import autocast, check_embeddings
from contrastive_ops.losses._common import (
    LossReduction,
    check_pairs,
    check_reduction,
    inverse_temperature,
    paired_scores,
    reduce,
)
from contrastive_ops.losses._module import LossModule
from contrastive_ops.losses._relations import matching_pairs
from contrastive_ops.losses._rows import row_cross_entropy, row_lse
from contrastive_ops.ops import cross_entropy_of_positive, merge_lse, streamed_row_lse
from contrastive_ops.ops.private_scores import private_scores
from contrastive_ops.ops.streamed import split_rows
from contrastive_ops.ops.transforms import requires_grad
from contrastive_ops.problem import DEFAULT_WORKSPACE_BYTES
from contrastive_ops.relations import Relation


def info_nce(
    queries: Tensor,
    keys: Tensor,
    *,
    temperature: float | Tensor = 0.07,
    negatives: Relation | Tensor | Iterable[Tensor] | None = None,
    reduction: LossReduction = "mean",
    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES,
    backend: str | None = None,
) -> Tensor:
    """Cross-entropy of key i among the candidates of query i.

        s_ij = <q_i, k_j> / temperature
        loss_i = -s_ii + log( exp(s_ii) + sum_{j in negatives(i)} exp(s_ij) )

    Args:
        queries: `[M, D]`, usually L2-normalised (nothing is normalised here).
        keys: `[M, D]`; key i is the positive of query i.
        temperature: > 0, divides the similarities; float or one-element tensor, which receives its gradient.
            On a GPU, where it is not read, 0 or less gives NaN or turns the order around, not an error.
        negatives: who the positive competes with.
            None: the keys of the other queries.
            a `Relation`: those of them that belong to it, such as `different(document_ids)`.
            `[K, D]`: these and no others, shared by all queries.
            `[M, K, D]`: query i against its own K. Each is used once, so this is a batched product without a backend.
            a sequence or any other iterable of `[K_c, D]` chunks: shared, visited once and never held whole. An
            iterator (a generator) serves one call. No chunk at all is an error where that is no sequence.
            Negatives receive gradients if they require them (in a tensor or a sequence; a chunk of another iterable
            must not require any).
        reduction: "mean", "sum", or "none" for the per-query losses `[M]`.
        workspace_bytes: budget for scores kept from forward for backward.
        backend: see `similarity_statistics`.

    Returns:
        float32 (float64 for float64 queries). Nothing is detached. A query without negatives has loss 0.

    Raises:
        ValueError, TypeError: for shapes, dtypes or options that do not fit, naming got and expected.
    """
    check_reduction(reduction)
    check_pairs("queries", queries, "keys", keys)
    scale = inverse_temperature(temperature, queries)
    if negatives is None or isinstance(negatives, Relation):
        candidates, positives = matching_pairs(negatives)
        pairs = {"candidates": candidates, "positives": positives}
        return row_cross_entropy(
            queries, keys, reduction, scale=scale, **pairs, workspace_bytes=workspace_bytes, backend=backend
        )
    positive = paired_scores(queries, keys, scale)
    lse = _negatives_lse(queries, negatives, scale, workspace_bytes, backend)
    return reduce(cross_entropy_of_positive(lse, positive), reduction)


def _negatives_lse(
    queries: Tensor,
    negatives: Tensor | Iterable[Tensor],
    scale: float | Tensor,
    workspace_bytes: int,
    backend: str | None,
) -> Tensor:
    """LSE of every query over its negatives, [M]."""

    def lse_over(rows: Tensor, keys: Tensor) -> Tensor:
        return row_lse(rows, keys, scale=scale, workspace_bytes=workspace_bytes, backend=backend)

    if isinstance(negatives, Tensor):
        if negatives.dim() == 3:
            check_backend_name(backend)
            return _private_lse(queries, negatives, scale)
        if negatives.dim() != 2:
            raise ValueError(f"negatives must be [K, D] or [M, K, D], got shape {tuple(negatives.shape)}")
        if requires_grad(negatives):
            return lse_over(queries, negatives)
        chunks: Iterable[Tensor] = split_rows(negatives)
    elif isinstance(negatives, Sequence) and any(isinstance(c, Tensor) and requires_grad(c) for c in negatives):
        for chunk in negatives:  # refuse before any work
            check_embeddings("every chunk of negatives", chunk)
        return merge_lse(*(lse_over(queries, chunk) for chunk in negatives))
    elif isinstance(negatives, Iterable):
        chunks = negatives
    else:
        raise TypeError(f"negatives must be a tensor or an iterable of tensors, got {type(negatives).__name__}")
    return streamed_row_lse(queries, chunks, scale=scale, workspace_bytes=workspace_bytes, backend=backend)


def _private_lse(queries: Tensor, negatives: Tensor, scale: float | Tensor) -> Tensor:
    """LSE of every query over negatives that it alone has, [M]."""
    check_embeddings("negatives", negatives)
    m, d = queries.shape
    if negatives.shape != (m, negatives.shape[1], d):
        raise ValueError(f"row-private negatives must be [M={m}, K, D={d}], got shape {tuple(negatives.shape)}")
    if autocast(negatives).dtype != autocast(queries).dtype:
        raise TypeError(
            f"queries and negatives must share one dtype, got {queries.dtype} and {negatives.dtype}: cast one"
        )
    return private_scores(queries, negatives, scale).logsumexp(1)


class InfoNCELoss(LossModule):
    """`info_nce` as a module: `InfoNCELoss(temperature=0.07)(queries, keys, negatives=None)`."""

    function = staticmethod(info_nce)

    def forward(self, queries: Tensor, keys: Tensor, negatives: Any = None, **given: Any) -> Tensor:
        return super().forward(queries, keys, negatives=self.negatives if negatives is None else negatives, **given)

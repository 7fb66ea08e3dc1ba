"""Where the positives of a line stand among its candidates, and what retrieval is judged by."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, overload

import torch
from torch import Tensor

from contrastive_ops.ops.reduce import reduce
from contrastive_ops.ops.rule import refuse_transformed
from contrastive_ops.plain import plain_int
from contrastive_ops.reductions import CountAbove, Largest, Reduced
from contrastive_ops.relations import Relation, all_pairs, diagonal


class Accuracy(NamedTuple):
    """Shares of the rows and of the columns whose best positive no candidate beats, 0-dim."""

    rows: Tensor
    columns: Tensor


@overload
def positive_ranks(  # type: ignore[overload-overlap]
    queries: Tensor,
    keys: Tensor,
    *,
    scale: float | Tensor = 1.0,
    row_bias: Tensor | None = None,
    col_bias: Tensor | None = None,
    candidates: Relation | None = None,
    positives: Relation | None = None,
    rows: Literal[True] = True,
    columns: Literal[True],
    backend: str | None = None,
) -> Reduced: ...


@overload
def positive_ranks(
    queries: Tensor,
    keys: Tensor,
    *,
    scale: float | Tensor = 1.0,
    row_bias: Tensor | None = None,
    col_bias: Tensor | None = None,
    candidates: Relation | None = None,
    positives: Relation | None = None,
    rows: bool = True,
    columns: bool = False,
    backend: str | None = None,
) -> Tensor: ...


@torch.no_grad()
def positive_ranks(
    queries: Tensor,
    keys: Tensor,
    *,
    scale: float | Tensor = 1.0,
    row_bias: Tensor | None = None,
    col_bias: Tensor | None = None,
    candidates: Relation | None = None,
    positives: Relation | None = None,
    rows: bool = True,
    columns: bool = False,
    backend: str | None = None,
) -> Tensor | Reduced:
    """How many candidates of a row (of a column) have a higher score than the best of its positives.

        rank_i = | { j : (i, j) in candidates, s_ij > max_{p: (i, p) in positives} s_ip } |
        s_ij   = scale * <q_i, k_j> + row_bias_i + col_bias_j

    0 is the best rank; a tie does not count, so that a duplicate of the positive does no harm. The best score comes
    from the same tiles as the scores that it is compared with. Two passes, and nothing of size M x N is stored.

    Args:
        queries: `[M, D]` or `[B, M, D]`; float32, float64, bfloat16 or float16, any strides.
        keys: `[N, D]` or `[B, N, D]`, same dtype and device.
        scale, row_bias, col_bias: as in `similarity_statistics`; a negative scale turns the order around.
        candidates: pairs that compete; None: all. The positives may be among them.
        positives: pairs of which the best counts; None: the diagonal, key i for query i.
        rows, columns: which lines to rank.
        backend: see `similarity_statistics`.

    Returns:
        int64 ranks, `[M]` (`[B, M]`) for rows or `[N]` for columns; `Reduced(rows, columns)` if both are asked for. -1
        for a line without positives (or whose best scores -inf). Where a score is not a number it counts as above, so
        that NaN embeddings make ranks worse, never better. Without gradient.

    Raises:
        ValueError, TypeError: naming got and expected, before any work is done.

    Example:
        >>> ranks = positive_ranks(text, images)
        >>> recall_at(ranks, 10), mrr(ranks)
    """
    refuse_transformed(queries, keys)
    positives = diagonal() if positives is None else positives
    candidates = all_pairs() if candidates is None else candidates
    scores: dict[str, Any] = {"scale": scale, "row_bias": row_bias, "col_bias": col_bias, "backend": backend}
    best = reduce(queries, keys, {"positives": Largest(positives, rows, columns)}, **scores)["positives"]
    above = CountAbove(candidates, rows, columns, row_values=best.rows, col_values=best.columns)
    counts = reduce(queries, keys, {"candidates": above}, **scores)["candidates"]
    ranks = Reduced(_without_positives(counts.rows, best.rows), _without_positives(counts.columns, best.columns))
    if rows and columns:
        return ranks
    found = ranks.rows if rows else ranks.columns
    assert found is not None
    return found


def recall_at(ranks: Tensor, k: int) -> Tensor:
    """The share of lines whose best positive is among the k best candidates: rank < k.

    Args:
        ranks: integers of any shape, as `positive_ranks` returns them; lines of -1 are left out.
        k: at least 1.

    Returns:
        0-dim float32 in [0, 1]; 0 where no line is left.
    """
    k = plain_int(k)
    if isinstance(k, bool) or not isinstance(k, int):
        raise TypeError(f"k must be an int, got {type(k).__name__}")
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    ranks = _check_ranks(ranks)
    return _mean_over_ranked((ranks < k).to(torch.float32), ranks)


def mrr(ranks: Tensor) -> Tensor:
    """Mean reciprocal rank: the mean of 1 / (1 + rank).

    Args:
        ranks: integers of any shape, as `positive_ranks` returns them; lines of -1 are left out.

    Returns:
        0-dim float32 in [0, 1]; 0 where no line is left.
    """
    ranks = _check_ranks(ranks)
    # -1, which is left out, must not divide by 0
    return _mean_over_ranked((ranks.clamp(min=0) + 1).to(torch.float32).reciprocal(), ranks)


def in_batch_accuracy(
    queries: Tensor,
    keys: Tensor,
    *,
    positives: Relation | None = None,
    candidates: Relation | None = None,
    backend: str | None = None,
) -> Accuracy:
    """The shares of queries and of keys that find their positive in the batch, as CLIP trainers log them.

        rows = recall_at(ranks of the rows, 1)        columns = recall_at(ranks of the columns, 1)

    Args: as `positive_ranks`; a tie with the positive is no mistake.

    Returns:
        `Accuracy(rows, columns)`, 0-dim float32 each: image to text and text to image where queries are images.
    """
    ranks = positive_ranks(
        queries, keys, candidates=candidates, positives=positives, rows=True, columns=True, backend=backend
    )
    assert ranks.rows is not None and ranks.columns is not None
    return Accuracy(recall_at(ranks.rows, 1), recall_at(ranks.columns, 1))


def _without_positives(counts: Tensor | None, best: Tensor | None) -> Tensor | None:
    if counts is None or best is None:
        return None
    return counts.masked_fill(best.isneginf(), -1)


def _check_ranks(ranks: Tensor) -> Tensor:
    if not isinstance(ranks, Tensor):
        raise TypeError(f"ranks must be a torch.Tensor, got {type(ranks).__name__}")
    if ranks.is_floating_point() or ranks.is_complex() or ranks.dtype == torch.bool:
        raise TypeError(f"ranks must be integers, got {ranks.dtype}")
    return ranks.to(torch.int64)


def _mean_over_ranked(values: Tensor, ranks: Tensor) -> Tensor:
    counted = ranks >= 0
    return values.masked_fill(~counted, 0.0).sum() / counted.sum().clamp(min=1)

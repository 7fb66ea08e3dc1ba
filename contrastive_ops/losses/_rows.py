"""Statistics of rows, and what is made of them where a row has no candidate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from contrastive_ops.ops import (
    cross_entropy_of_positive,
    divided_row_cross_entropy,
    reduce,
    similarity_statistics,
)
from contrastive_ops.reductions import Reduction


def row_lse(queries: Tensor, keys: Tensor, **options: Any) -> Tensor:
    """`row_lse` of `similarity_statistics`, which takes the options; `[M]` or `[B, M]`."""
    lse = similarity_statistics(queries, keys, **options).row_lse
    assert lse is not None
    return lse


def row_lses(queries: Tensor, keys: Tensor, passed: Mapping[str, Reduction], **options: Any) -> list[Tensor]:
    """Those of several log-sum-exps, from one pass; options as of `reduce`."""
    found = [reduced.rows for reduced in reduce(queries, keys, passed, **options).values()]
    return [lse for lse in found if lse is not None]


def row_lse_and_sum(queries: Tensor, keys: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    """`row_lse` and `row_sum` of `similarity_statistics`, which takes the options (`positives` among them)."""
    lse, total, _, _ = similarity_statistics(queries, keys, **options)
    assert lse is not None and total is not None
    return lse, total


def row_cross_entropy(queries: Tensor, keys: Tensor, reduction: str, **options: Any) -> Tensor:
    """Cross-entropy of each row's one positive against its candidates, reduced: where one number is wanted, three
    products instead of four. Options as in `summed_row_cross_entropy`."""
    if reduction == "none":
        return cross_entropy_of_positive(*row_lse_and_sum(queries, keys, **options))
    divisor = 1 if reduction == "sum" else max(queries.shape[0], 1)
    return divided_row_cross_entropy(queries, keys, divisor, **options)


def zero_without_candidates(losses: Tensor, lse: Tensor) -> Tensor:
    """0 with gradient 0 where lse is -inf: the loss of a row that has nothing to be told from."""
    return losses.masked_fill(lse.isneginf(), 0.0)

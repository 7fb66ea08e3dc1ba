"""Both directions over pairs: every image among the texts, every text among the images, from one pass."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from contrastive_ops.losses._relations import matching_pairs
from contrastive_ops.ops import cross_entropy_of_positive, similarity_statistics
from contrastive_ops.relations import Relation


class PairCrossEntropies(NamedTuple):
    """`[N]` each: cross-entropy of pair i in its row and in its column of the scores, and its score s_ii."""

    rows: Tensor
    columns: Tensor
    positive: Tensor


def pair_cross_entropies(
    first: Tensor, second: Tensor, scale: float | Tensor, negatives: Relation | None = None, **options: Any
) -> PairCrossEntropies:
    """s_ij = scale * <first_i, second_j>; pair i competes with `negatives`, and each positive stays out of its own
    log-sum-exp. `options` are those of `similarity_statistics`."""
    candidates, positives = matching_pairs(negatives)
    row_lse, positive, col_lse, _ = similarity_statistics(
        first,
        second,
        scale=scale,
        candidates=candidates,
        positives=positives,
        rows=True,
        columns=True,
        **options,
    )
    assert row_lse is not None and positive is not None and col_lse is not None
    # s_ii is the same number for row i and column i
    rows, columns = cross_entropy_of_positive(torch.stack((row_lse, col_lse)), positive).unbind()
    return PairCrossEntropies(rows, columns, positive)

"""The sum of the scores of a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from contrastive_ops.reductions.base import Reduced, Reduction, ReductionKind


@dataclass(frozen=True, eq=False)
class ScoreSum(Reduction):
    """sum_i = sum_{j: (i, j) in relation} t_ij, and down the columns; 0 for a line without pairs."""

    kind: ClassVar[ReductionKind] = ReductionKind.SCORE_SUM
    word: ClassVar[str] = "score_sum"
    neutral: ClassVar[float] = 0.0
    merges_by_adding: ClassVar[bool] = True

    def take(self, scores: Tensor, mask: Tensor | None, dims: Sequence[int], spare: Tensor) -> list[Tensor]:
        if mask is not None:
            scores = spare.copy_(scores).masked_fill_(~mask, 0.0)
        return [scores.sum(dim) for dim in dims]

    @staticmethod
    def merge(first: Tensor, second: Tensor) -> Tensor:
        return first + second

    def slope(self, scores: Tensor, mask: Tensor | None, results: Reduced, upstream: Reduced, spare: Tensor) -> Tensor:
        """a_i + b_j"""
        spare.zero_()
        if upstream.rows is not None:
            spare += upstream.rows.unsqueeze(-1)
        if upstream.columns is not None:
            spare += upstream.columns.unsqueeze(-2)
        return spare if mask is None else spare.masked_fill_(~mask, 0.0)

"""How many scores of a line lie above a number of the line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from contrastive_ops.reductions.base import Reduction, ReductionKind
from contrastive_ops.relations import Relation


@dataclass(frozen=True, eq=False)
class CountAbove(Reduction):
    """The number of pairs (i, j) of the relation with t_ij > row_values_i, int64, and down the columns with
    t_ij > col_values_j. What is not a number, on either side, counts as above. Without a gradient.

    Args:
        row_values: `[M]` or `[B, M]`, where rows are counted.
        col_values: `[N]` or `[B, N]`, where columns are.
    """

    row_values: Tensor | None = None  # type: ignore[misc]
    col_values: Tensor | None = None  # type: ignore[misc]

    kind: ClassVar[ReductionKind] = ReductionKind.COUNT_ABOVE
    word: ClassVar[str] = "count_above"
    neutral: ClassVar[float] = 0
    merges_by_adding: ClassVar[bool] = True
    has_slope: ClassVar[bool] = False

    compares: ClassVar[bool] = True

    def made_of(
        self, relation: Relation, factor: Tensor | None, row_values: Tensor | None, col_values: Tensor | None
    ) -> CountAbove:
        return CountAbove(relation, self.rows, self.columns, factor, row_values, col_values)

    def transposed(self) -> CountAbove:
        return CountAbove(
            self.relation.transposed(), self.columns, self.rows, self.factor, self.col_values, self.row_values
        )

    def result_dtype(self, statistics: torch.dtype) -> torch.dtype:
        return torch.int64

    def take(self, scores: Tensor, mask: Tensor | None, dims: Sequence[int], spare: Tensor) -> list[Tensor]:
        counts = []
        for dim in dims:
            values = self.row_values if dim == -1 else self.col_values
            assert values is not None
            above = ~(scores <= values.unsqueeze(dim))
            counts.append((above if mask is None else above & mask).sum(dim))
        return counts

    @staticmethod
    def merge(first: Tensor, second: Tensor) -> Tensor:
        return first + second

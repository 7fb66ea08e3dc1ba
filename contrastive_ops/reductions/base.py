"""What a line of scores is reduced to: neutral element, what a block gives, how blocks merge, and the slope."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from contrastive_ops.leaves import Axis, Leaf
from contrastive_ops.relations import Relation, all_pairs

MAX_REDUCTIONS = 4  # of one pass: `kMaxReductions` in `csrc/types.h`
FACTOR, ROW_VALUES, COL_VALUES = Leaf(Axis.NONE, 0), Leaf(Axis.ROWS, 2), Leaf(Axis.COLS, 2)


class ReductionKind(IntEnum):
    """Order is shared with `enum ReductionKind` in `csrc/types.h`."""

    LOG_SUM_EXP = 0
    SCORE_SUM = 1
    LARGEST = 2
    COUNT_ABOVE = 3


class Reduced(NamedTuple):
    """Numbers of one reduction, `[M]` and `[N]` (`[B, M]` and `[B, N]` with a batch dimension); None: not wanted."""

    rows: Tensor | None
    columns: Tensor | None


@dataclass(frozen=True, eq=False)
class Reduction:
    """One number of every row, of every column, or both, of the scores t_ij = factor * s_ij of the pairs of a relation.

    Args:
        relation: the pairs (i, j) that take part; all of them by default.
        rows, columns: which lines are reduced.
        factor: multiplies the scores for this reduction alone (another temperature in the same pass): a float or a
            one-element tensor, a constant of the gradient; None for 1.
    """

    relation: Relation = field(default_factory=all_pairs)
    rows: bool = True
    columns: bool = False
    factor: float | Tensor | None = None

    kind: ClassVar[ReductionKind]
    word: ClassVar[str]  # in the form of a problem
    neutral: ClassVar[float]  # of a line without pairs
    has_slope: ClassVar[bool] = True
    slope_has_result: ClassVar[bool] = False  # whether the slope is one of the line's result, not of its upstream alone
    num_states: ClassVar[int] = 1  # numbers that a native kernel carries along a line: its running state
    merges_by_adding: ClassVar[bool] = False
    overwrites: ClassVar[bool] = False  # whether `take` changes the scores that it is given

    compares: ClassVar[bool] = False  # with a number of each line, `row_values` and `col_values`; others have none
    row_values: ClassVar[Tensor | None] = None
    col_values: ClassVar[Tensor | None] = None

    @property
    def is_symmetric(self) -> bool:
        """Whether columns are reduced as rows are, where both are one set, so that half of the pairs tell both."""
        return self.has_slope and self.relation.is_symmetric

    def leaves(self) -> list[tuple[Leaf, Any]]:
        """Its tensors, once checked."""
        found: list[tuple[Leaf, Any]] = [] if self.factor is None else [(FACTOR, self.factor)]
        if self.compares and self.rows:
            found.append((ROW_VALUES, self.row_values))
        if self.compares and self.columns:
            found.append((COL_VALUES, self.col_values))
        return found + self.relation.leaves()

    def with_leaves(self, tensors: Iterator[Tensor], offsets: Iterator[int] | None = None) -> Reduction:
        """The same with the next of other tensors, and of other offsets of diagonals if they are given."""
        factor = None if self.factor is None else next(tensors)
        row_values = next(tensors) if self.compares and self.rows else None
        col_values = next(tensors) if self.compares and self.columns else None
        return self.made_of(self.relation.with_leaves(tensors, offsets), factor, row_values, col_values)

    def made_of(
        self, relation: Relation, factor: Tensor | None, row_values: Tensor | None, col_values: Tensor | None
    ) -> Reduction:
        """The same kind and directions with these parts."""
        return type(self)(relation, self.rows, self.columns, factor)

    def with_relation(self, relation: Relation) -> Reduction:
        return replace(self, relation=relation)

    def transposed(self) -> Reduction:
        return replace(self, relation=self.relation.transposed(), rows=self.columns, columns=self.rows)

    @property
    def dims(self) -> list[int]:
        """Dimensions of `[..., m, n]` that are reduced: the last one for rows, that before it for columns."""
        return [dim for dim, wanted in ((-1, self.rows), (-2, self.columns)) if wanted]

    def reduced(self, values: Iterator[Any]) -> Reduced:
        """The next of numbers in the order of `dims`."""
        return Reduced(next(values) if self.rows else None, next(values) if self.columns else None)

    def result_dtype(self, statistics: torch.dtype) -> torch.dtype:
        return statistics

    def scaled(self, scores: Tensor) -> Tensor:
        """t_ij."""
        return scores if self.factor is None else scores * self.factor

    def take(self, scores: Tensor, mask: Tensor | None, dims: Sequence[int], spare: Tensor) -> list[Tensor]:
        """The reduction of a block `[..., m, n]` over each of the dimensions: -1 for rows, -2 for columns.

        Args:
            scores: t_ij, which may be overwritten where `overwrites` is set.
            mask: the pairs that take part; None: all.
            spare: memory of the block's size.
        """
        raise NotImplementedError

    @staticmethod
    def merge(first: Tensor, second: Tensor) -> Tensor:
        """Of the numbers over two disjoint sets of pairs, that over both: for blocks, panels, chunks and ranks."""
        raise NotImplementedError

    def slope(self, scores: Tensor, mask: Tensor | None, results: Reduced, upstream: Reduced, spare: Tensor) -> Tensor:
        """upstream_i dresult_i / dt_ij + upstream_j dresult_j / dt_ij of a block, for lines `[..., m]` and `[..., n]`.
        May lie in `spare`."""
        raise NotImplementedError

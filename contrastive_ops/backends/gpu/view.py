"""A problem from the point of view of one side, which owns the rows of the score matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from contrastive_ops.problem import Problem
from contrastive_ops.relations import Clause, Relation
from contrastive_ops.scores import Score, ScoreKind


class Lines(NamedTuple):
    """Vectors `[B, size]` of one side, contiguous, in the statistics dtype; None where there is none or it is zero."""

    bias: Tensor | None
    lse: Tensor | None
    d_lse: Tensor | None
    d_sum: Tensor | None


class Side(NamedTuple):
    """One side of the score matrix."""

    embeddings: Tensor  # [B, size, D], of the columns of a score of K products [B, K, size, D]; unit stride in D
    lines: Lines

    @property
    def banks(self) -> tuple[Tensor, ...]:
        """K tensors `[B, size, D]`: one for every product of the score."""
        return self.embeddings.unbind(1) if self.embeddings.dim() == 4 else (self.embeddings,)


class View(NamedTuple):
    """A score matrix whose rows belong to one side."""

    rows: Side
    cols: Side
    candidates: tuple[Clause, ...]  # ids contiguous, [1, size] or [B, size]; diagonals within [-rows, columns]
    positives: tuple[Clause, ...]
    scale: Tensor  # [], statistics dtype
    unit: Tensor | None  # [] factor that keeps weights in the range of the embeddings' dtype; None for 1
    score: Score  # its terms contiguous

    @property
    def num_banks(self) -> int:
        """K, the products that the score is made of."""
        return self.cols.embeddings.shape[1] if self.cols.embeddings.dim() == 4 else 1

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """B, rows, columns, D."""
        batch, rows, d = self.rows.embeddings.shape
        return batch, rows, self.cols.embeddings.shape[-2], d

    def at(self, b: int) -> View:
        """One entry of the batch."""
        if self.sizes[0] == 1:
            return self

        def side(all_sides: Side) -> Side:
            lines = Lines(*(None if line is None else line[b : b + 1] for line in all_sides.lines))
            return Side(all_sides.embeddings[b : b + 1], lines)

        def clauses(all_clauses: tuple[Clause, ...]) -> tuple[Clause, ...]:
            return tuple(Clause(c.kind, c.offset, _entry(c.row_ids, b), _entry(c.col_ids, b)) for c in all_clauses)

        return View(
            side(self.rows),
            side(self.cols),
            clauses(self.candidates),
            clauses(self.positives),
            self.scale,
            self.unit,
            map_terms(self.score, lambda term: term[b : b + 1]),
        )


def view_rows(problem: Problem, row_lines: Lines, col_lines: Lines, unit: Tensor | None = None) -> View:
    """Queries own the rows."""
    _, m, n, _ = problem.sizes
    return View(
        Side(problem.queries, row_lines),
        Side(problem.keys, col_lines),
        _clauses(problem.candidates, m, n),
        _clauses(problem.positives, m, n),
        problem.scale,
        unit,
        map_terms(problem.score, Tensor.contiguous),
    )


def view_columns(problem: Problem, row_lines: Lines, col_lines: Lines, unit: Tensor | None = None) -> View:
    """The transposed matrix: keys own the rows. Of inner products only: no other score is one of (k_j, q_i) as well."""
    assert problem.score.kind is ScoreKind.DOT
    _, m, n, _ = problem.sizes
    return View(
        Side(problem.keys, col_lines),
        Side(problem.queries, row_lines),
        _clauses(problem.candidates, m, n, transposed=True),
        _clauses(problem.positives, m, n, transposed=True),
        problem.scale,
        unit,
        problem.score,
    )


def map_terms(score: Score, change: Callable[[Tensor], Tensor]) -> Score:
    """The score with each of its tensors changed."""
    row_term, col_term, mixing = (
        None if term is None else change(term) for term in (score.row_term, score.col_term, score.mixing)
    )
    return score._replace(row_term=row_term, col_term=col_term, mixing=mixing)


def _clauses(relation: Relation | None, m: int, n: int, transposed: bool = False) -> tuple[Clause, ...]:
    return tuple(_clause(clause, m, n, transposed) for clause in (() if relation is None else relation.clauses))


def _clause(clause: Clause, m: int, n: int, transposed: bool) -> Clause:
    # a diagonal outside the matrix stays outside, and 32 bits hold it
    offset = max(-m, min(n, clause.offset))
    row_ids, col_ids = (None if ids is None else ids.contiguous() for ids in (clause.row_ids, clause.col_ids))
    if transposed:
        return Clause(clause.kind, -offset, col_ids, row_ids)
    return Clause(clause.kind, offset, row_ids, col_ids)


def _entry(ids: Tensor | None, b: int) -> Tensor | None:
    return ids if ids is None or ids.shape[0] == 1 else ids[b : b + 1]

"""A problem as the passes of a GPU see it: one side owns the rows, and lines bring what slopes ask of them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from contrastive_ops.leaves import Leaf
from contrastive_ops.problem import KEYS, QUERIES, Problem, Results
from contrastive_ops.reductions import Reduced, Reduction
from contrastive_ops.relations import Clause, Relation


class LineValues(NamedTuple):
    """Of one reduction and each line of a side, `[B, n]`, contiguous; None where the slope does not ask for it."""

    result: Tensor | None = None
    upstream: Tensor | None = None


class View(NamedTuple):
    """A score matrix whose rows belong to one side."""

    problem: (
        Problem  # tensors contiguous but for the vectors, which have unit stride in D; diagonals in [-rows, columns]
    )
    unit: Tensor | None = None  # [] factor that keeps weights in the range of the embeddings' dtype; None for 1
    rows: tuple[LineValues, ...] = ()  # of each reduction; () in the score pass
    cols: tuple[LineValues, ...] = ()

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """B, rows, columns, D."""
        return self.problem.sizes

    @property
    def scale(self) -> Tensor:
        return self.problem.scale

    @property
    def dtype(self) -> torch.dtype:
        """Of the embeddings."""
        return self.problem.dtype

    @property
    def num_banks(self) -> int:
        """K, the products that the score is made of."""
        return len(self.problem.pairs)

    @property
    def row_vectors(self) -> Tensor:
        """`[B, rows, D]`"""
        return self.problem.rows.vectors[:, 0]

    @property
    def col_vectors(self) -> Tensor:
        """`[B, K, columns, D]`: one for every product of the score."""
        return self.problem.cols.vectors

    def transposed(self) -> View:
        """The other side owns the rows. Of scores without roles only."""
        return View(self.problem.transposed(), self.unit, self.cols, self.rows)


def view_of(problem: Problem, results: Results = (), upstream: Results = (), unit: Tensor | None = None) -> View:
    """Queries own the rows; with results and upstream gradients in the gradient pass."""
    _, m, n, _ = problem.sizes
    # nearly always all is as kernels read it, and nothing is made anew: a tenth of a small step's time on the host
    leaves = problem.leaves()
    placed = [_contiguous(leaf, tensor) for leaf, tensor in leaves]
    if any(now is not before for now, (_, before) in zip(placed, leaves, strict=True)):
        problem = problem.with_leaves(placed)
    if any(not -m <= c.offset <= n for r in problem.reductions for c in r.relation.clauses):
        clamped = tuple(r.with_relation(_clamped(r.relation, m, n)) for r in problem.reductions)
        problem = problem._replace(reductions=clamped)
    rows, cols = (
        tuple(
            _line_values(reduction, result[side], given[side])
            for reduction, result, given in zip(problem.reductions, results, upstream, strict=False)
        )
        for side in (0, 1)
    )
    return View(problem, unit, rows, cols)


def both_roles(results: Results, upstream: Results) -> tuple[Results, Results]:
    """In self-similarity rows and columns are one, so their upstream gradients add up."""

    def add(first: Tensor | None, second: Tensor | None) -> Tensor | None:
        return second if first is None else first if second is None else first + second

    return (
        tuple(Reduced(*[rows if rows is not None else columns] * 2) for rows, columns in results),
        tuple(Reduced(*[add(*given)] * 2) for given in upstream),
    )


def _contiguous(leaf: Leaf, tensor: Tensor) -> Tensor:
    if leaf is QUERIES or leaf is KEYS:  # kernels read rows of D neighbouring numbers; anything else is copied once
        return tensor if tensor.stride(-1) == 1 else tensor.contiguous()
    return tensor.contiguous()


def _clamped(relation: Relation, m: int, n: int) -> Relation:
    """A diagonal outside the matrix stays outside, and 32 bits hold it."""
    return Relation(tuple(c if c.uses_ids else Clause(c.kind, max(-m, min(n, c.offset))) for c in relation.clauses))


def _line_values(reduction: Reduction, result: Tensor | None, upstream: Tensor | None) -> LineValues:
    if upstream is None:
        return LineValues()
    asked = result if reduction.slope_has_result else None
    return LineValues(None if asked is None else asked.contiguous(), upstream.contiguous())

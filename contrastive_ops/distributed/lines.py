"""The lines (rows or columns) of one rank or of several, and the block of scores that two sets of lines span."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from contrastive_ops.distributed.collectives import Tensors
from contrastive_ops.problem import Problem
from contrastive_ops.relations import Clause, Relation


class Lines(NamedTuple):
    """All that the scores need to know of n lines of one side."""

    start: int  # index of the first one among those of all ranks
    vectors: Tensor  # [n, D]
    bias: Tensor | None  # [n]
    ids: Tensor | None  # [n, C]: what each clause with ids compares, candidates first

    def packed(self, wire_dtype: torch.dtype) -> Tensors:
        """What travels."""
        return tuple(x for x in (self.vectors.to(wire_dtype), self.bias, self.ids) if x is not None)

    def unpacked(self, start: int, packed: Tensors) -> Lines:
        """Other lines of the same make, from what travelled."""
        arriving = iter(packed)
        vectors = next(arriving).to(self.vectors.dtype)
        return Lines(start, vectors, *(None if x is None else next(arriving) for x in (self.bias, self.ids)))


def own_lines(problem: Problem, row_start: int, col_start: int) -> tuple[Lines, Lines]:
    """The (rows, columns) of this rank's own problem."""
    clauses = [clause for clause in _all_clauses(problem) if clause.uses_ids]

    def stacked(ids: list[Tensor | None]) -> Tensor | None:
        present = [x.squeeze(0) for x in ids if x is not None]
        return torch.stack(present, 1) if present else None

    rows = Lines(row_start, problem.queries, problem.row_bias, stacked([clause.row_ids for clause in clauses]))
    cols = Lines(col_start, problem.keys, problem.col_bias, stacked([clause.col_ids for clause in clauses]))
    return rows, cols


def block(problem: Problem, rows: Lines, cols: Lines, workspace_bytes: int) -> Problem:
    """The scores of these rows against these columns, under the relations of the problem; with a batch dimension."""
    columns_of_ids = iter(range(len(_all_clauses(problem))))

    def placed(relation: Relation) -> Relation:
        clauses = []
        for clause in relation.clauses:
            if clause.uses_ids:
                assert rows.ids is not None and cols.ids is not None
                c = next(columns_of_ids)
                row_ids, col_ids = (ids[None, :, c].contiguous() for ids in (rows.ids, cols.ids))
                clauses.append(Clause(clause.kind, 0, row_ids, col_ids))
            else:  # j + cols.start == i + rows.start + offset
                clauses.append(Clause(clause.kind, clause.offset + rows.start - cols.start))
        return Relation(tuple(clauses))

    return problem._replace(
        queries=rows.vectors[None],
        keys=cols.vectors[None],
        row_bias=None if rows.bias is None else rows.bias[None],
        col_bias=None if cols.bias is None else cols.bias[None],
        candidates=placed(problem.candidates),
        positives=None if problem.positives is None else placed(problem.positives),
        self_similarity=False,
        workspace_bytes=workspace_bytes,
    )


def _all_clauses(problem: Problem) -> tuple[Clause, ...]:
    return problem.candidates.clauses + (problem.positives.clauses if problem.positives else ())

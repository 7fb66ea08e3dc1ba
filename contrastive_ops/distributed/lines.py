"""The lines (rows or columns) of one rank or of several, and the block of scores that two sets of lines span."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from contrastive_ops.distributed.collectives import Tensors
from contrastive_ops.problem import Problem
from contrastive_ops.relations import Clause, Relation


class Lines(NamedTuple):
    """All that the scores need to know of n lines of one side; every tensor `[n, ...]`."""

    start: int  # index of the first line among those of all ranks
    vectors: Tensor  # [n, D], or [n, K, D] where a score is made of K products
    bias: Tensor | None = None  # [n]
    term: Tensor | None = None  # [n]
    mixing: Tensor | None = None  # [n, K(K+1)/2]
    ids: Tensor | None = None  # [n, C]: what each clause with ids compares, candidates first

    def packed(self, wire_dtype: torch.dtype) -> Tensors:
        """What travels."""
        _, vectors, *others = self
        return vectors.to(wire_dtype), *(tensor for tensor in others if tensor is not None)

    def unpacked(self, start: int, packed: Tensors) -> Lines:
        """Other lines of the same make, from what travelled."""
        vectors, *others = packed
        arriving = iter(others)
        return Lines(
            start, vectors.to(self.vectors.dtype), *(None if mine is None else next(arriving) for mine in self[2:])
        )


def own_lines(problem: Problem, row_start: int, col_start: int) -> tuple[Lines, Lines]:
    """The (rows, columns) of this rank's own problem."""
    clauses = [clause for clause in _clauses(problem) if clause.uses_ids]
    score = problem.score
    rows = Lines(
        start=row_start,
        vectors=problem.queries,
        bias=problem.row_bias,
        term=score.row_term,
        ids=_stacked([clause.row_ids for clause in clauses]),
    )
    cols = Lines(
        start=col_start,
        vectors=line_first(problem.keys),
        bias=problem.col_bias,
        term=score.col_term,
        mixing=None if score.mixing is None else score.mixing.T,
        ids=_stacked([clause.col_ids for clause in clauses]),
    )
    return rows, cols


def block(problem: Problem, rows: Lines, cols: Lines, workspace_bytes: int) -> Problem:
    """The scores of these rows against these columns, under the relations of the problem; with a batch dimension."""
    columns_of_ids = iter(range(len(_clauses(problem))))

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
        keys=cols.vectors.movedim(0, -2)[None],
        row_bias=_batched(rows.bias),
        col_bias=_batched(cols.bias),
        candidates=placed(problem.candidates),
        positives=None if problem.positives is None else placed(problem.positives),
        self_similarity=False,
        workspace_bytes=workspace_bytes,
        score=problem.score._replace(
            row_term=_batched(rows.term),
            col_term=_batched(cols.term),
            mixing=None if cols.mixing is None else _batched(cols.mixing.T.contiguous()),
        ),
    )


def line_first(keys: Tensor) -> Tensor:
    """`[N, D]` as it is, `[K, N, D]` as `[N, K, D]`."""
    return keys.movedim(-2, 0)


def _clauses(problem: Problem) -> tuple[Clause, ...]:
    return problem.candidates.clauses + (() if problem.positives is None else problem.positives.clauses)


def _stacked(ids: list[Tensor | None]) -> Tensor | None:
    present = [tensor.squeeze(0) for tensor in ids if tensor is not None]
    return torch.stack(present, 1) if present else None


def _batched(value: Tensor | None) -> Tensor | None:
    return None if value is None else value[None]

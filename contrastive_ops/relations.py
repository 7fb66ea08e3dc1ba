"""Which pairs (i, j) take part in a reduction: built from ids and diagonals, never a stored M x N mask.

A relation is the intersection of at most four clauses. `all_pairs()` has none. Clauses combine with `&`:

    same(labels) & off_diagonal()        # SupCon positives: same label, not the anchor itself
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import torch
from torch import Tensor

from contrastive_ops.leaves import Axis, Leaf

MAX_CLAUSES = 4  # `kMaxClauses` in `csrc/types.h`

ROW_IDS, COL_IDS = Leaf(Axis.ROWS, 2), Leaf(Axis.COLS, 2)

_UNION = "A log-sum-exp over either of two that are disjoint is merge_lse(that over the first, that over the second)."
_COMPLEMENT = "same(ids) and different(ids) are complements, and so are diagonal() and off_diagonal()."


class ClauseKind(IntEnum):
    """Order is shared with `enum ClauseKind` in `csrc/types.h`."""

    DIAGONAL = 0
    OFF_DIAGONAL = 1
    SAME = 2
    DIFFERENT = 3


@dataclass(frozen=True, eq=False)
class Clause:
    """One condition on a pair (i, j).

    DIAGONAL: j == i + offset.  OFF_DIAGONAL: j != i + offset.
    SAME: row_ids[i] == col_ids[j].  DIFFERENT: row_ids[i] != col_ids[j].
    """

    kind: ClauseKind
    offset: int = 0
    row_ids: Tensor | None = None  # [M] or [B, M], integer
    col_ids: Tensor | None = None  # [N] or [B, N], integer

    @property
    def uses_ids(self) -> bool:
        return self.kind is ClauseKind.SAME or self.kind is ClauseKind.DIFFERENT

    def mask(self, m: int, n: int, device: torch.device) -> Tensor:
        """Bool, `[m, n]` or `[B, m, n]`."""
        if self.row_ids is not None and self.col_ids is not None:
            equal = self.row_ids[..., :, None] == self.col_ids[..., None, :]
            return equal if self.kind == ClauseKind.SAME else ~equal
        i = torch.arange(m, device=device)[:, None]
        j = torch.arange(n, device=device)[None, :]
        on_diagonal = j == i + self.offset
        return on_diagonal if self.kind == ClauseKind.DIAGONAL else ~on_diagonal


@dataclass(frozen=True, eq=False)
class Relation:
    """The intersection of its clauses; no clause means every pair."""

    clauses: tuple[Clause, ...] = ()

    def __and__(self, other: Relation) -> Relation:
        return self.intersection(other) if isinstance(other, Relation) else NotImplemented

    def __bool__(self) -> bool:
        """Would make `first and second` the second alone, in silence."""
        raise TypeError(
            "a relation has no truth value, which `and`, `or` and `not` ask for: first & second is the intersection. "
            f"{_UNION} {_COMPLEMENT}"
        )

    def __or__(self, other: object) -> Relation:
        raise TypeError(f"there is no union of relations, only the intersection first & second. {_UNION}")

    def __invert__(self) -> Relation:
        raise TypeError(f"a relation has no complement. {_COMPLEMENT}")

    def intersection(self, other: Relation) -> Relation:
        """`self & other`, which a graph cannot hold before torch 2.11."""
        clauses = self.clauses + other.clauses
        if len(clauses) > MAX_CLAUSES:
            raise ValueError(
                f"a relation holds at most {MAX_CLAUSES} clauses, got {len(clauses)}: "
                "encode further conditions in the ids themselves"
            )
        return Relation(clauses)

    @property
    def is_symmetric(self) -> bool:
        """True if (i, j) belongs exactly when (j, i) does, for rows and columns that are the same items."""
        return all(
            clause.row_ids is clause.col_ids if clause.uses_ids else clause.offset == 0 for clause in self.clauses
        )

    def without_diagonal(self) -> Relation:
        """Itself less the pairs (i, i)."""
        holds_none = any(
            (c.kind == ClauseKind.OFF_DIAGONAL and c.offset == 0)
            or (c.kind == ClauseKind.DIFFERENT and c.row_ids is c.col_ids)
            for c in self.clauses
        )
        return self if holds_none else self.intersection(off_diagonal())

    def leaves(self) -> list[tuple[Leaf, Any]]:
        """Its ids, clause by clause."""
        return [
            (leaf, ids)
            for clause in self.clauses
            if clause.uses_ids
            for leaf, ids in ((ROW_IDS, clause.row_ids), (COL_IDS, clause.col_ids))
        ]

    def with_leaves(self, tensors: Iterator[Tensor], offsets: Iterator[int] | None = None) -> Relation:
        """The same with the next of other ids, and of other offsets if they are given."""
        clauses = []
        for clause in self.clauses:
            if clause.uses_ids:
                clauses.append(Clause(clause.kind, 0, next(tensors), next(tensors)))
            else:
                clauses.append(clause if offsets is None else Clause(clause.kind, next(offsets)))
        return Relation(tuple(clauses)) if clauses else self

    def moved(self, row_start: int, col_start: int) -> Relation:
        """Diagonals of the part of the matrix that starts there, renumbered from 0."""
        return Relation(
            tuple(c if c.uses_ids else Clause(c.kind, c.offset + row_start - col_start) for c in self.clauses)
        )

    def transposed(self) -> Relation:
        """(j, i) for every (i, j)."""
        return Relation(tuple(Clause(c.kind, -c.offset, c.col_ids, c.row_ids) for c in self.clauses))

    def mask(self, m: int, n: int, device: torch.device) -> Tensor | None:
        """Bool, `[m, n]` or `[B, m, n]`; None where every pair belongs."""
        block = None
        for clause in self.clauses:
            part = clause.mask(m, n, device)
            block = part if block is None else block & part
        return block


def all_pairs() -> Relation:
    """Every pair."""
    return Relation()


def diagonal(offset: int = 0) -> Relation:
    """Pairs with j == i + offset; the offset places local rows against gathered columns."""
    return Relation((Clause(ClauseKind.DIAGONAL, offset=offset),))


def off_diagonal(offset: int = 0) -> Relation:
    """Pairs with j != i + offset."""
    return Relation((Clause(ClauseKind.OFF_DIAGONAL, offset=offset),))


def same(row_ids: Tensor, col_ids: Tensor | None = None) -> Relation:
    """Pairs whose integer ids are equal. `row_ids [M]` or `[B, M]`; `col_ids` defaults to `row_ids`."""
    return _by_ids(ClauseKind.SAME, row_ids, col_ids)


def different(row_ids: Tensor, col_ids: Tensor | None = None) -> Relation:
    """Pairs whose integer ids differ. `row_ids [M]` or `[B, M]`; `col_ids` defaults to `row_ids`."""
    return _by_ids(ClauseKind.DIFFERENT, row_ids, col_ids)


def _by_ids(kind: ClauseKind, row_ids: Tensor, col_ids: Tensor | None) -> Relation:
    return Relation((Clause(kind, row_ids=row_ids, col_ids=row_ids if col_ids is None else col_ids),))

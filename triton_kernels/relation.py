"""Which pairs of a tile take part: clauses tested on indices and ids, and whether a tile needs the test at all."""

from typing import Any, NamedTuple

import triton
import triton.language as tl

from contrastive_ops.relations import ClauseKind

DIAGONAL = tl.constexpr(int(ClauseKind.DIAGONAL))
OFF_DIAGONAL = tl.constexpr(int(ClauseKind.OFF_DIAGONAL))
SAME = tl.constexpr(int(ClauseKind.SAME))
DIFFERENT = tl.constexpr(int(ClauseKind.DIFFERENT))


class DiagonalClause(NamedTuple):
    """A clause as a kernel argument; a relation is a tuple of them, `()` for every pair. No field is None: Triton
    before 3.7 cannot take the length of a tuple that holds one."""

    kind: Any  # constexpr, a ClauseKind
    offset: Any  # j == i + offset


class IdsClause(NamedTuple):
    kind: Any  # constexpr, a ClauseKind
    row_ids: Any  # [M] of each batch entry
    col_ids: Any  # [N] of each batch entry
    row_batch_stride: Any
    col_batch_stride: Any


@triton.jit
def diagonal_crosses(offset, row_start, col_start, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    """Whether j == i + offset for some pair of the tile."""
    return (col_start + BLOCK_N > row_start + offset) & (col_start < row_start + offset + BLOCK_M)


@triton.jit
def clause_may_exclude(clause, row_start, col_start, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    """False where the clause holds for the whole tile. A scalar."""
    if clause.kind == OFF_DIAGONAL:
        return diagonal_crosses(clause.offset, row_start, col_start, BLOCK_M, BLOCK_N)
    else:
        return row_start >= 0


@triton.jit
def may_exclude(relation, row_start, col_start, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    """False where every pair of the tile is known to belong. A scalar."""
    found = row_start < 0
    for c in tl.static_range(len(relation)):
        found = found | clause_may_exclude(relation[c], row_start, col_start, BLOCK_M, BLOCK_N)
    return found


@triton.jit
def may_include(relation, row_start, col_start, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    """False where no pair of the tile belongs, as far as diagonals tell. A scalar."""
    found = row_start >= 0
    for c in tl.static_range(len(relation)):
        if relation[c].kind == DIAGONAL:
            found = found & diagonal_crosses(relation[c].offset, row_start, col_start, BLOCK_M, BLOCK_N)
    return found


@triton.jit
def clause_mask(clause, batch, rows, cols, num_rows, num_cols):
    """[BLOCK_M, BLOCK_N] of bool."""
    if clause.kind == DIAGONAL:
        return cols[None, :] == rows[:, None] + clause.offset
    elif clause.kind == OFF_DIAGONAL:
        return cols[None, :] != rows[:, None] + clause.offset
    else:
        row_ids = tl.load(
            clause.row_ids + batch.to(tl.int64) * clause.row_batch_stride + rows, mask=rows < num_rows, other=0
        )
        col_ids = tl.load(
            clause.col_ids + batch.to(tl.int64) * clause.col_batch_stride + cols, mask=cols < num_cols, other=0
        )
        if clause.kind == SAME:
            return row_ids[:, None] == col_ids[None, :]
        else:
            return row_ids[:, None] != col_ids[None, :]


@triton.jit
def relation_mask(relation, batch, rows, cols, num_rows, num_cols):
    """[BLOCK_M, BLOCK_N] of bool: pairs inside the matrix that satisfy every clause."""
    mask = (rows < num_rows)[:, None] & (cols < num_cols)[None, :]
    for c in tl.static_range(len(relation)):
        mask = mask & clause_mask(relation[c], batch, rows, cols, num_rows, num_cols)
    return mask

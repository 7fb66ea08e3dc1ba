"""Which pairs of a tile take part: clauses tested on indices and ids, and whether a tile needs the test at all."""

from typing import Any, NamedTuple

import triton
import triton.language as tl

from contrastive_ops.relations import ClauseKind
from contrastive_ops.triton_kernels.tile import inside

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
def diagonal_crosses(offset, tile):
    """Whether j == i + offset for some pair of the tile."""
    BLOCK_M: tl.constexpr = tile.rows.shape[0]
    BLOCK_N: tl.constexpr = tile.cols.shape[0]
    first = tile.row_start + offset
    return (tile.col_start + BLOCK_N > first) & (tile.col_start < first + BLOCK_M)


@triton.jit
def clause_may_exclude(clause, tile):
    """False where the clause holds for the whole tile. A scalar."""
    if clause.kind == OFF_DIAGONAL:
        return diagonal_crosses(clause.offset, tile)
    else:
        return tile.row_start >= 0


@triton.jit
def may_exclude(relation, tile):
    """False where every pair of the tile is known to belong. A scalar."""
    found = tile.row_start < 0
    for c in tl.static_range(len(relation)):
        found = found | clause_may_exclude(relation[c], tile)
    return found


@triton.jit
def may_include(relation, tile):
    """False where no pair of the tile belongs, as far as diagonals tell. A scalar."""
    found = tile.row_start >= 0
    for c in tl.static_range(len(relation)):
        if relation[c].kind == DIAGONAL:
            found = found & diagonal_crosses(relation[c].offset, tile)
    return found


@triton.jit
def load_ids(ids, batch, batch_stride, lines, size):
    return tl.load(ids + batch.to(tl.int64) * batch_stride + lines, mask=lines < size, other=0)


@triton.jit
def clause_mask(clause, tile):
    """[BLOCK_M, BLOCK_N] of bool."""
    if clause.kind == DIAGONAL:
        return tile.cols[None, :] == tile.rows[:, None] + clause.offset
    elif clause.kind == OFF_DIAGONAL:
        return tile.cols[None, :] != tile.rows[:, None] + clause.offset
    else:
        row_ids = load_ids(clause.row_ids, tile.batch, clause.row_batch_stride, tile.rows, tile.num_rows)
        col_ids = load_ids(clause.col_ids, tile.batch, clause.col_batch_stride, tile.cols, tile.num_cols)
        if clause.kind == SAME:
            return row_ids[:, None] == col_ids[None, :]
        else:
            return row_ids[:, None] != col_ids[None, :]


@triton.jit
def relation_mask(relation, tile):
    """[BLOCK_M, BLOCK_N] of bool: pairs inside the matrix that satisfy every clause."""
    mask = inside(tile)
    for c in tl.static_range(len(relation)):
        mask = mask & clause_mask(relation[c], tile)
    return mask

"""A tile of the score matrix, and the products of its lines: what the kernels of every pass have in common."""

from typing import Any, NamedTuple

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)


class Tile(NamedTuple):
    """Where a tile of one batch entry lies in the score matrix."""

    batch: Any
    row_start: Any
    rows: Any  # [BLOCK_M], from row_start on; those beyond the end of the matrix are masked
    num_rows: Any  # of the matrix
    col_start: Any
    cols: Any  # [BLOCK_N]
    num_cols: Any


class Strides(NamedTuple):
    """How far apart neighbours of embeddings `[B, size, K, D]` are; those along D are one apart.

    Kernels take embeddings as `data` and `strides`: a pointer and these, or a tensor descriptor, which knows its own,
    and `()`. Both are arguments of their own, as launchers before Triton 3.8 find no descriptor inside a tuple.
    """

    batch: Any
    row: Any
    bank: Any


class Vectors(NamedTuple):
    """The embeddings of one side."""

    data: Any
    strides: Any
    size: Any


@triton.jit
def tile_at(batch, row_start, num_rows, col_start, num_cols, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    rows = row_start + tl.arange(0, BLOCK_M)
    cols = col_start + tl.arange(0, BLOCK_N)
    return Tile(batch, row_start, rows, num_rows, col_start, cols, num_cols)


@triton.jit
def inside(tile):
    """[BLOCK_M, BLOCK_N] of bool: pairs of the matrix."""
    return (tile.rows < tile.num_rows)[:, None] & (tile.cols < tile.num_cols)[None, :]


@triton.jit
def load_vectors(
    vectors, batch, start, d_start, D, BLOCK: tl.constexpr, BLOCK_D: tl.constexpr, bank=0, BANKS: tl.constexpr = 1
):
    """[BLOCK, BLOCK_D] of one bank, zeros outside: a masked weight then never meets a NaN beyond the end."""
    if len(vectors.strides) == 0:
        if BANKS == 1:
            tile = vectors.data.load([batch, start, d_start])
        else:
            tile = vectors.data.load([batch, start, bank, d_start])
        return tile.reshape(BLOCK, BLOCK_D)
    else:
        lines = start + tl.arange(0, BLOCK)
        d = d_start + tl.arange(0, BLOCK_D)
        strides = vectors.strides
        first = tl.cast(batch, tl.int64) * strides.batch + tl.cast(bank, tl.int64) * strides.bank
        offsets = first + lines.to(tl.int64) * strides.row
        mask = (lines < vectors.size)[:, None] & (d < D)[None, :]
        return tl.load(vectors.data + offsets[:, None] + d[None, :], mask=mask, other=0.0)


@triton.jit
def exponential(x):
    """exp(x). In float32 by the GPU's power of two, whose subnormal results are 0: three instructions less each."""
    if x.dtype == tl.float64:
        return tl.exp(x)
    else:
        return tl.exp2(x * LOG2_E)


@triton.jit
def load_line(line, batch, lines, size, other):
    return tl.load(line + batch.to(tl.int64) * size + lines, mask=lines < size, other=other)


@triton.jit
def load_rows(line, tile, other):
    """[BLOCK_M] of a line `[B, M]`."""
    return load_line(line, tile.batch, tile.rows, tile.num_rows, other)


@triton.jit
def load_cols(line, tile, other):
    """[BLOCK_N] of a line `[B, N]`."""
    return load_line(line, tile.batch, tile.cols, tile.num_cols, other)


@triton.jit
def products(
    rows,  # Vectors
    cols,
    tile,
    D,
    BANKS: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
    ACCUMULATOR: tl.constexpr,
):
    """<q_i, k^s_j> of a tile for every bank s, any D in steps of BLOCK_D."""
    BLOCK_M: tl.constexpr = tile.rows.shape[0]
    BLOCK_N: tl.constexpr = tile.cols.shape[0]
    dots = ()
    for _ in tl.static_range(BANKS):
        dots = dots + (tl.zeros((BLOCK_M, BLOCK_N), ACCUMULATOR),)
    for d_start in range(0, D, BLOCK_D):
        row_tile = load_vectors(rows, tile.batch, tile.row_start, d_start, D, BLOCK_M, BLOCK_D)
        added = ()
        for s in tl.static_range(BANKS):
            col_tile = load_vectors(cols, tile.batch, tile.col_start, d_start, D, BLOCK_N, BLOCK_D, s, BANKS)
            dot = tl.dot(row_tile, tl.trans(col_tile), dots[s], input_precision=PRECISION, out_dtype=ACCUMULATOR)
            added = added + (dot,)
        dots = added
    return dots

"""Gradient pass in two levels, for large D and for scores of several products: the weights of a macro-block, which stay
in the second-level cache, then products."""

from typing import Any, NamedTuple

import triton
import triton.language as tl

from contrastive_ops.triton_kernels.reduction import score_gradient
from contrastive_ops.triton_kernels.score import (
    bank_weights,
    scaled_scores,
    score_coordinates,
    score_slopes,
    score_value,
)
from contrastive_ops.triton_kernels.tile import Vectors, inside, load_vectors, products, tile_at


class Lines(NamedTuple):
    """The lines of one side that belong to a macro-block."""

    first: Any
    number: Any


@triton.jit
def store_row_sums(slots, values, i, block_rows):
    """The slot of this tile of columns."""
    if slots is not None:
        tl.store(slots + tl.program_id(1) * block_rows + i, tl.sum(values, 1), mask=i < block_rows)


@triton.jit
def store_col_sums(slots, values, j, block_cols):
    """The slot of this tile of rows."""
    if slots is not None:
        tl.store(slots + tl.program_id(0) * block_cols + j, tl.sum(values, 0), mask=j < block_cols)


@triton.jit(
    do_not_specialize=[
        "num_rows",
        "num_cols",
        "entry",
        "first_row",
        "first_col",
        "block_rows",
        "block_cols",
        "first_term",
        "d_scale_weight",
    ]
)
def macro_gradient_kernel(
    row_data,  # [B, M, D]
    row_strides,  # Strides, or () with descriptors
    col_data,  # [B, N, K, D]
    col_strides,
    score,  # Score
    scale,  # []
    unit,  # [] or None, as in gradient_bwd_kernel
    row_bias,  # [B, M] statistics dtype, or None
    col_bias,  # [B, N]
    reductions,  # tuple of Reduction, with upstream gradients
    kept,  # [B, M, N] statistics dtype: <q_i, k_j> from the score pass, or None
    weights_block,  # [K, block_rows, block_cols] of the embeddings' dtype, or None
    bank_stride,  # of weights_block
    row_stride,
    d_scale,  # partial sums of dS_ij score_ij, or None
    d_scale_weight,  # what a pair of this block counts in d_scale
    parts,  # LineSums: a slot [block_rows] for each tile of columns, [block_cols] for each tile of rows
    num_rows,
    num_cols,
    D,
    entry,  # of the batch
    first_term,  # of the [programs] numbers in d_scale
    first_row,
    first_col,
    block_rows,  # rows of the macro-block: a multiple of BLOCK_M, or up to the end of the matrix
    block_cols,
    BANKS: tl.constexpr,  # K
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """unit * the weights of one tile of the macro-block, rounded to the dtype of the products that follow, and its part
    of the sums along its lines."""
    row_start = first_row + tl.program_id(0) * BLOCK_M
    col_start = first_col + tl.program_id(1) * BLOCK_N
    tile = tile_at(entry, row_start, num_rows, col_start, num_cols, BLOCK_M, BLOCK_N)
    ACCUMULATOR: tl.constexpr = scale.dtype.element_ty
    unit_value = tl.load(unit) if unit is not None else 1.0
    if kept is not None:
        products_of_entry = kept + entry.to(tl.int64) * num_rows * num_cols
        offsets = tile.rows.to(tl.int64)[:, None] * num_cols + tile.cols[None, :]
        dots = (tl.load(products_of_entry + offsets, mask=inside(tile), other=0.0),)
    else:
        row_vectors, col_vectors = Vectors(row_data, row_strides, num_rows), Vectors(col_data, col_strides, num_cols)
        dots = products(row_vectors, col_vectors, tile, D, BANKS, BLOCK_D, PRECISION, ACCUMULATOR)
    coordinates = score_coordinates(score, dots, tile)
    values = score_value(score, coordinates, tile)
    scores = scaled_scores(values, tl.load(scale), row_bias, col_bias, tile)
    ds = score_gradient(reductions, scores, unit_value, tile)
    if d_scale is not None:
        program = tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)
        tl.store(d_scale + (first_term + program), tl.sum(ds * values) * (d_scale_weight / unit_value))
    i, j = tile.rows - first_row, tile.cols - first_col
    slopes, by_row_term, by_col_term = score_slopes(score, coordinates, ds, tile)
    store_row_sums(parts.row_bias, ds, i, block_rows)
    store_col_sums(parts.col_bias, ds, j, block_cols)
    store_row_sums(parts.row_term, by_row_term, i, block_rows)
    store_col_sums(parts.col_term, by_col_term, j, block_cols)
    if weights_block is not None:
        targets = weights_block + (i[:, None] * row_stride + j[None, :])  # of a workspace that 31 bits count
        for s in tl.static_range(len(slopes)):
            weights = bank_weights(score, slopes, s, tile, weights_block.dtype.element_ty)
            tl.store(targets + s * bank_stride, weights, mask=inside(tile))  # as the block ends where a tile does


@triton.jit
def add_product(
    gradient,  # [lines, D] statistics dtype, contiguous: of one entry and bank
    own,  # Lines of the gradient
    weights,  # Vectors
    vectors,  # of the other side
    others,  # Lines of the other side
    entry,
    first_bank,
    tile,
    D,
    BANKS: tl.constexpr,  # that are added up: all that the other side has
    TRANSPOSED: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """gradient += sum_s weights^s vectors^s, or sum_s weights^s^T vectors^s, in one tile of the gradient."""
    first, first_d = tile * BLOCK_M, tl.program_id(1) * BLOCK_N
    i, d = first + tl.arange(0, BLOCK_M), first_d + tl.arange(0, BLOCK_N)
    target = gradient + (own.first + i).to(tl.int64)[:, None] * D + d[None, :]
    mask = (i < own.number)[:, None] & (d < D)[None, :]
    total = tl.load(target, mask=mask, other=0.0)
    for s in range(first_bank, first_bank + BANKS):
        for start in range(0, others.number, BLOCK_K):
            if TRANSPOSED:
                left = tl.trans(load_vectors(weights, s, start, first, own.number, BLOCK_K, BLOCK_M))
            else:
                left = load_vectors(weights, s, first, start, others.number, BLOCK_M, BLOCK_K)
            right = load_vectors(vectors, entry, others.first + start, first_d, D, BLOCK_K, BLOCK_N, s, BANKS)
            total = tl.dot(left, right, total, input_precision=PRECISION, out_dtype=total.dtype)
    tl.store(target, total, mask=mask)


@triton.jit(
    do_not_specialize=[
        "num_rows",
        "num_cols",
        "entry",
        "first_row",
        "first_col",
        "block_rows",
        "block_cols",
        "row_tiles",
        "col_tiles",
    ]
)
def macro_product_kernel(
    weights_data,  # [K, block_rows, block_cols]: a macro-block, for tiles of BLOCK_M x BLOCK_K
    weights_strides,  # Strides, or () with descriptors
    transposed_data,  # the same, for tiles of BLOCK_K x BLOCK_M
    transposed_strides,
    row_data,  # [B, M, D]
    row_strides,
    col_data,  # [B, N, K, D]
    col_strides,
    d_rows,  # [B, M, D] statistics dtype, contiguous: accumulated into; or None
    d_cols,  # [B, K, N, D] likewise
    num_rows,
    num_cols,
    D,
    entry,  # of the batch
    first_row,
    first_col,
    block_rows,  # a multiple of BLOCK_K, or up to the end of the matrix
    block_cols,
    row_tiles,  # programs along the block's rows; then, for every bank, those along its columns
    col_tiles,
    BANKS: tl.constexpr,  # K
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,  # columns of the gradients
    BLOCK_K: tl.constexpr,  # lines of the other side in a step
):
    """d_rows += sum_s weights^s cols^s and d_cols^s += weights^s^T rows. Macro-blocks follow one another on the stream:
    one order of sums."""
    tile = tl.program_id(0)
    rows, cols = Lines(first_row, block_rows), Lines(first_col, block_cols)
    if d_rows is not None:
        if tile < row_tiles:
            add_product(
                d_rows + entry.to(tl.int64) * num_rows * D,
                rows,
                Vectors(weights_data, weights_strides, block_rows),
                Vectors(col_data, col_strides, first_col + block_cols),
                cols,
                entry,
                0,
                tile,
                D,
                BANKS,
                False,
                PRECISION,
                BLOCK_M,
                BLOCK_N,
                BLOCK_K,
            )
    if d_cols is not None:
        if tile >= row_tiles:
            bank = (tile - row_tiles) // col_tiles
            add_product(
                d_cols + (entry.to(tl.int64) * BANKS + bank) * num_cols * D,
                cols,
                Vectors(transposed_data, transposed_strides, block_rows),
                Vectors(row_data, row_strides, first_row + block_rows),
                rows,
                entry,
                bank,
                (tile - row_tiles) % col_tiles,
                D,
                1,
                True,
                PRECISION,
                BLOCK_M,
                BLOCK_N,
                BLOCK_K,
            )


@triton.jit
def add_parts(line, parts, batch_start, first, size, num_parts, BLOCK: tl.constexpr):
    """line += the sum over its slots, in their order."""
    if line is not None:
        i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        target = line + (batch_start + first + i)
        total = tl.zeros((BLOCK,), line.dtype.element_ty)
        for slot in range(num_parts):
            total += tl.load(parts + slot * size + i, mask=i < size, other=0.0)
        tl.store(target, tl.load(target, mask=i < size, other=0.0) + total, mask=i < size)


@triton.jit(
    do_not_specialize=[
        "num_rows",
        "num_cols",
        "entry",
        "first_row",
        "first_col",
        "block_rows",
        "block_cols",
        "row_parts",
        "col_parts",
    ]
)
def macro_sums_kernel(
    lines,  # LineSums [B, M] and [B, N]: accumulated into
    parts,  # LineSums of the macro-block, as in macro_gradient_kernel
    num_rows,
    num_cols,
    entry,
    first_row,
    first_col,
    block_rows,
    block_cols,
    row_parts,  # slots of a line of rows
    col_parts,
    BLOCK: tl.constexpr,
):
    row_start, col_start = entry.to(tl.int64) * num_rows, entry.to(tl.int64) * num_cols
    add_parts(lines.row_bias, parts.row_bias, row_start, first_row, block_rows, row_parts, BLOCK)
    add_parts(lines.col_bias, parts.col_bias, col_start, first_col, block_cols, col_parts, BLOCK)
    add_parts(lines.row_term, parts.row_term, row_start, first_row, block_rows, row_parts, BLOCK)
    add_parts(lines.col_term, parts.col_term, col_start, first_col, block_cols, col_parts, BLOCK)

"""Gradient pass in two levels, for large D and for scores of several products: the weights of a macro-block, which stay
in the second-level cache, then products."""

import triton
import triton.language as tl

from contrastive_ops.triton_kernels.score import bank_weights, score_coordinates, score_slopes, score_value
from contrastive_ops.triton_kernels.tile import load_rows, products, score_gradient


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
    do_not_specialize=["num_rows", "num_cols", "first_row", "first_col", "block_rows", "block_cols", "d_scale_weight"]
)
def macro_gradient_kernel(
    row_data,  # [1, M, D]: one batch entry
    row_strides,  # Strides, or () with descriptors
    col_data,  # [1, N, K, D]
    col_strides,
    score,  # Score of this batch entry
    scale,  # []
    unit,  # [] or None, as in gradient_bwd_kernel
    row_lines,  # Lines of this batch entry
    col_lines,
    candidates,
    positives,
    kept,  # [M, N] statistics dtype: <q_i, k_j> from the score pass, or None
    weights_block,  # [K, block_rows, block_cols] of the embeddings' dtype, or None
    bank_stride,  # of weights_block
    row_stride,
    d_scale,  # [programs] partial sums of dS_ij score_ij, or None
    d_scale_weight,  # what a pair of this block counts in d_scale
    sums,  # LineSums: a slot [block_rows] for each tile of columns, [block_cols] for each tile of rows
    num_rows,
    num_cols,
    D,
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
    rows = row_start + tl.arange(0, BLOCK_M)
    cols = col_start + tl.arange(0, BLOCK_N)
    batch = tl.program_id(2)  # 0: the pointers are those of the batch entry
    ACCUMULATOR: tl.constexpr = scale.dtype.element_ty
    unit_value = tl.load(unit) if unit is not None else 1.0
    if kept is not None:
        inside = (rows < num_rows)[:, None] & (cols < num_cols)[None, :]
        dots = (tl.load(kept + rows.to(tl.int64)[:, None] * num_cols + cols[None, :], mask=inside, other=0.0),)
    else:
        dots = products(
            row_data,
            row_strides,
            col_data,
            col_strides,
            batch,
            row_start,
            num_rows,
            col_start,
            num_cols,
            D,
            BANKS,
            BLOCK_M,
            BLOCK_N,
            BLOCK_D,
            PRECISION,
            ACCUMULATOR,
        )
    coordinates = score_coordinates(score, dots, batch, cols, num_cols)
    values = score_value(score, coordinates, batch, rows, num_rows, cols, num_cols)
    ds = score_gradient(
        values,
        tl.load(scale),
        unit_value,
        row_lines,
        col_lines,
        candidates,
        positives,
        batch,
        row_start,
        rows,
        num_rows,
        col_start,
        cols,
        num_cols,
        BLOCK_M,
        BLOCK_N,
    )
    if d_scale is not None:
        program = tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)
        tl.store(d_scale + program, tl.sum(ds * values) * (d_scale_weight / unit_value))
    i, j = rows - first_row, cols - first_col
    slopes, by_row_term, by_col_term = score_slopes(score, coordinates, ds, batch, rows, num_rows, cols, num_cols)
    store_row_sums(sums.row_bias, ds, i, block_rows)
    store_col_sums(sums.col_bias, ds, j, block_cols)
    store_row_sums(sums.row_term, by_row_term, i, block_rows)
    store_col_sums(sums.col_term, by_col_term, j, block_cols)
    if weights_block is not None:
        targets = weights_block + (i[:, None] * row_stride + j[None, :])  # of a workspace that 31 bits count
        inside = (i < block_rows)[:, None] & (j < block_cols)[None, :]
        for s in tl.static_range(len(slopes)):
            weights = bank_weights(score, slopes, s, batch, cols, num_cols, weights_block.dtype.element_ty)
            tl.store(targets + s * bank_stride, weights, mask=inside)


@triton.jit(do_not_specialize=["size", "depth"])
def macro_product_kernel(
    weights_data,  # [1, size, depth], with TRANSPOSED [1, depth, size]: a macro-block of one bank
    weights_strides,  # Strides, or () with descriptors
    other_data,  # [1, depth, D]: the part of the other side that it covers
    other_strides,
    gradient,  # [size, D] statistics dtype, contiguous: accumulated into
    size,
    depth,
    D,
    TRANSPOSED: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,  # columns of the gradient
    BLOCK_K: tl.constexpr,  # depth: lines of the other side
):
    """gradient += weights other, or weights^T other. Macro-blocks follow one another on the stream: one order of
    sums."""
    first, first_d = tl.program_id(0) * BLOCK_M, tl.program_id(1) * BLOCK_N
    batch = tl.program_id(2)  # 0
    ACCUMULATOR: tl.constexpr = gradient.dtype.element_ty
    i, d = tl.arange(0, BLOCK_M), first_d + tl.arange(0, BLOCK_N)
    target = gradient + first.to(tl.int64) * D + (i[:, None] * D + d[None, :])
    inside = (first + i < size)[:, None] & (d < D)[None, :]
    accumulated = tl.load(target, mask=inside, other=0.0)
    for start in range(0, depth, BLOCK_K):
        if TRANSPOSED:
            tile = tl.trans(
                load_rows(weights_data, weights_strides, batch, start, depth, first, size, BLOCK_K, BLOCK_M)
            )
        else:
            tile = load_rows(weights_data, weights_strides, batch, first, size, start, depth, BLOCK_M, BLOCK_K)
        other_tile = load_rows(other_data, other_strides, batch, start, depth, first_d, D, BLOCK_K, BLOCK_N)
        accumulated = tl.dot(tile, other_tile, accumulated, input_precision=PRECISION, out_dtype=ACCUMULATOR)
    tl.store(target, accumulated, mask=inside)

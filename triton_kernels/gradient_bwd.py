"""Gradient pass in the FlashAttention shape: a program owns rows, recomputes their scores and accumulates in registers.

Of inner products alone, where either side can own the rows.
Launched once for the queries and once, with the sides swapped, for the keys; in self-similarity once.
"""

import triton
import triton.language as tl

from contrastive_ops.triton_kernels.reduction import score_gradient
from contrastive_ops.triton_kernels.score import scaled_scores
from contrastive_ops.triton_kernels.tile import Vectors, load_vectors, products, tile_at


@triton.jit(do_not_specialize=["num_rows", "num_cols"])
def gradient_bwd_kernel(
    row_data,  # [B, M, D] of the owner
    row_strides,  # Strides, or () with descriptors
    col_data,  # [B, N, D] of the other side
    col_strides,
    scale,  # []
    unit,  # [] factor that keeps dS in the range of the embeddings' dtype, or None for 1
    row_bias,  # [B, M] statistics dtype, or None
    col_bias,  # [B, N]
    reductions,  # tuple of Reduction from the owner's point of view, with upstream gradients
    d_rows,  # [B, M, D] contiguous, or None
    d_bias,  # [B, M] statistics dtype, or None
    d_scale,  # [B, M] statistics dtype: sum_j dS_ij <q_i, k_j>, or None
    num_rows,
    num_cols,
    D,
    RESIDENT: tl.constexpr,  # BLOCK_D holds the whole of D; needed for d_rows
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """d_rows_i = scale * sum_j dS_ij k_j    d_bias_i = sum_j dS_ij    d_scale_i = sum_j dS_ij <q_i, k_j>"""
    row_start = tl.program_id(0) * BLOCK_M
    batch = tl.program_id(1)
    rows = row_start + tl.arange(0, BLOCK_M)
    ACCUMULATOR: tl.constexpr = scale.dtype.element_ty
    scale_value = tl.load(scale)
    unit_value = tl.load(unit) if unit is not None else 1.0
    row_vectors, col_vectors = Vectors(row_data, row_strides, num_rows), Vectors(col_data, col_strides, num_cols)
    if RESIDENT:
        row_tile = load_vectors(row_vectors, batch, row_start, 0, D, BLOCK_M, BLOCK_D)
    else:
        row_tile = None
    if d_rows is not None:
        accumulated = tl.zeros((BLOCK_M, BLOCK_D), ACCUMULATOR)
    bias_total = tl.zeros((BLOCK_M,), ACCUMULATOR)
    scale_total = tl.zeros((BLOCK_M,), ACCUMULATOR)

    for col_start in range(0, num_cols, BLOCK_N):
        tile = tile_at(batch, row_start, num_rows, col_start, num_cols, BLOCK_M, BLOCK_N)
        if RESIDENT:
            col_tile = load_vectors(col_vectors, batch, col_start, 0, D, BLOCK_N, BLOCK_D)
            dots = tl.dot(row_tile, tl.trans(col_tile), input_precision=PRECISION, out_dtype=ACCUMULATOR)
        else:
            dots = products(row_vectors, col_vectors, tile, D, 1, BLOCK_D, PRECISION, ACCUMULATOR)[0]
        scores = scaled_scores(dots, scale_value, row_bias, col_bias, tile)
        ds = score_gradient(reductions, scores, unit_value, tile)
        if d_bias is not None:
            bias_total += tl.sum(ds, 1)
        if d_scale is not None:
            scale_total += tl.sum(ds * dots, 1)
        if d_rows is not None:
            accumulated = tl.dot(
                ds.to(col_tile.dtype), col_tile, accumulated, input_precision=PRECISION, out_dtype=ACCUMULATOR
            )

    line_offsets = batch.to(tl.int64) * num_rows + rows
    if d_bias is not None:
        tl.store(d_bias + line_offsets, bias_total / unit_value, mask=rows < num_rows)
    if d_scale is not None:
        tl.store(d_scale + line_offsets, scale_total / unit_value, mask=rows < num_rows)
    if d_rows is not None:
        d = tl.arange(0, BLOCK_D)
        gradient = accumulated * (scale_value / unit_value)
        tl.store(
            d_rows + line_offsets[:, None] * D + d[None, :],
            gradient.to(d_rows.dtype.element_ty),
            mask=(rows < num_rows)[:, None] & (d < D)[None, :],
        )

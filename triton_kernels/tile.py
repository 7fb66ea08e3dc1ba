"""Products, scores and score gradients of one tile: what the kernels of every pass have in common."""

from typing import Any, NamedTuple

import triton
import triton.language as tl

from contrastive_ops.triton_kernels.relation import may_exclude, may_include, relation_mask

LOG2_E = tl.constexpr(1.4426950408889634)


class Strides(NamedTuple):
    """How far apart neighbours of embeddings `[B, size, K, D]` are; those along D are one apart.

    Kernels take embeddings as `data` and `strides`: a pointer and these, or a tensor descriptor, which knows its own,
    and `()`. Both are arguments of their own, as launchers before Triton 3.8 find no descriptor inside a tuple.
    """

    batch: Any
    row: Any
    bank: Any


@triton.jit
def load_rows(
    data,
    strides,
    batch,
    start,
    size,
    d_start,
    D,
    BLOCK: tl.constexpr,
    BLOCK_D: tl.constexpr,
    bank=0,
    BANKS: tl.constexpr = 1,
):
    """[BLOCK, BLOCK_D] of one bank, zeros outside: a masked weight then never meets a NaN beyond the end."""
    if len(strides) == 0:
        if BANKS == 1:
            tile = data.load([batch, start, d_start])
        else:
            tile = data.load([batch, start, bank, d_start])
        return tile.reshape(BLOCK, BLOCK_D)
    else:
        rows = start + tl.arange(0, BLOCK)
        d = d_start + tl.arange(0, BLOCK_D)
        first = tl.cast(batch, tl.int64) * strides.batch + tl.cast(bank, tl.int64) * strides.bank
        row_offsets = first + rows.to(tl.int64) * strides.row
        mask = (rows < size)[:, None] & (d < D)[None, :]
        return tl.load(data + row_offsets[:, None] + d[None, :], mask=mask, other=0.0)


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
def products(
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
    BANKS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
    ACCUMULATOR: tl.constexpr,
):
    """<q_i, k^s_j> of a tile for every bank s, any D in steps of BLOCK_D."""
    dots = ()
    for _ in tl.static_range(BANKS):
        dots = dots + (tl.zeros((BLOCK_M, BLOCK_N), ACCUMULATOR),)
    for d_start in range(0, D, BLOCK_D):
        row_tile = load_rows(row_data, row_strides, batch, row_start, num_rows, d_start, D, BLOCK_M, BLOCK_D)
        added = ()
        for s in tl.static_range(BANKS):
            col_tile = load_rows(
                col_data, col_strides, batch, col_start, num_cols, d_start, D, BLOCK_N, BLOCK_D, s, BANKS
            )
            dot = tl.dot(row_tile, tl.trans(col_tile), dots[s], input_precision=PRECISION, out_dtype=ACCUMULATOR)
            added = added + (dot,)
        dots = added
    return dots


@triton.jit
def add_biases(values, scale, row_lines, col_lines, batch, rows, num_rows, cols, num_cols):
    """s_ij = scale * score_ij + row_bias_i + col_bias_j"""
    scores = values * scale
    if row_lines.bias is not None:
        scores += load_line(row_lines.bias, batch, rows, num_rows, 0.0)[:, None]
    if col_lines.bias is not None:
        scores += load_line(col_lines.bias, batch, cols, num_cols, 0.0)[None, :]
    return scores


@triton.jit
def mask_candidates(
    scores,
    candidates,
    batch,
    row_start,
    rows,
    num_rows,
    col_start,
    cols,
    num_cols,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """-inf wherever no candidate is; tiles that are all candidates pay nothing."""
    at_the_end = (row_start + BLOCK_M > num_rows) | (col_start + BLOCK_N > num_cols)
    if at_the_end | may_exclude(candidates, row_start, col_start, BLOCK_M, BLOCK_N):
        mask = relation_mask(candidates, batch, rows, cols, num_rows, num_cols)
        scores = tl.where(mask, scores, float("-inf"))
    return scores


@triton.jit
def load_lse(line, batch, lines, size):
    """-inf (no candidates) and lines beyond the end become +inf: exp(s - lse) is then 0, as the gradient must be."""
    lse = load_line(line, batch, lines, size, float("inf"))
    return tl.where(lse == float("-inf"), float("inf"), lse)


@triton.jit
def score_gradient(
    values,
    scale,
    unit,
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
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """unit * dS of a tile, in the statistics dtype:

    dS_ij = cand_ij (g_i exp(s_ij - lse_i) + h_j exp(s_ij - lse_j)) + pos_ij (a_i + b_j)
    """
    scores = add_biases(values, scale, row_lines, col_lines, batch, rows, num_rows, cols, num_cols)
    scores = mask_candidates(
        scores, candidates, batch, row_start, rows, num_rows, col_start, cols, num_cols, BLOCK_M, BLOCK_N
    )
    ds = tl.zeros_like(scores)
    if row_lines.d_lse is not None:
        g = load_line(row_lines.d_lse, batch, rows, num_rows, 0.0) * unit
        lse = load_lse(row_lines.lse, batch, rows, num_rows)
        ds += g[:, None] * exponential(scores - lse[:, None])
    if col_lines.d_lse is not None:
        h = load_line(col_lines.d_lse, batch, cols, num_cols, 0.0) * unit
        lse = load_lse(col_lines.lse, batch, cols, num_cols)
        ds += h[None, :] * exponential(scores - lse[None, :])
    if row_lines.d_sum is not None or col_lines.d_sum is not None:
        if may_include(positives, row_start, col_start, BLOCK_M, BLOCK_N):
            if row_lines.d_sum is not None:
                weight = (load_line(row_lines.d_sum, batch, rows, num_rows, 0.0) * unit)[:, None]
                if col_lines.d_sum is not None:
                    weight += (load_line(col_lines.d_sum, batch, cols, num_cols, 0.0) * unit)[None, :]
            else:
                weight = (load_line(col_lines.d_sum, batch, cols, num_cols, 0.0) * unit)[None, :]
            mask = relation_mask(positives, batch, rows, cols, num_rows, num_cols)
            ds = tl.where(mask, ds + weight, ds)
    return ds

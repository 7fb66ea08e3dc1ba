"""How many scores of a line lie above a number of the line, int64. Without a gradient."""

import triton
import triton.language as tl

from contrastive_ops.triton_kernels.tile import load_cols, load_rows


@triton.jit
def count_neutral(SIZE: tl.constexpr):
    return (tl.zeros((SIZE,), tl.int64),)


@triton.jit
def count_merge(first, second):
    return (first[0] + second[0],)


@triton.jit
def count_of_rows(reduction, scores, mask, tile):
    values = load_rows(reduction.row_values[0], tile, 0.0)
    return (tl.sum(is_above(scores, values[:, None], mask), 1),)


@triton.jit
def count_of_cols(reduction, scores, mask, tile):
    values = load_cols(reduction.col_values[0], tile, 0.0)
    return (tl.sum(is_above(scores, values[None, :], mask), 0),)


@triton.jit
def is_above(scores, values, mask):
    """1 or 0; what is not a number, on either side, is above."""
    return tl.where(mask, tl.where(scores <= values, 0, 1), 0)

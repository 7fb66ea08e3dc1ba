"""log sum exp of the scores of a line.

lse = log sum exp(t)            carried as (top, total): the largest t, and the sum of exp(t - top)
dlse / dt = exp(t - lse)
"""

import triton
import triton.language as tl

from contrastive_ops.triton_kernels.relation import may_exclude, relation_mask
from contrastive_ops.triton_kernels.tile import exponential, load_cols, load_rows


@triton.jit
def lse_neutral(SIZE: tl.constexpr, dtype: tl.constexpr):
    return tl.full((SIZE,), float("-inf"), dtype), tl.zeros((SIZE,), dtype)


@triton.jit
def lse_merge(first, second):
    """(top, total) of the union of two sets of pairs."""
    top = tl.maximum(first[0], second[0])
    shift = finite_or_zero(top)
    return top, first[1] * exponential(first[0] - shift) + second[1] * exponential(second[0] - shift)


@triton.jit
def lse_finish(state):
    return finite_or_zero(state[0]) + tl.log(state[1])


@triton.jit
def finite_or_zero(top):
    """A shift that keeps exp(t - shift) free of inf - inf: lines without pairs, or with an infinite score."""
    return tl.where(tl.abs(top) == float("inf"), 0.0, top)


@triton.jit
def lse_scores(scores, relation, tile):
    """-inf wherever no pair of the relation is; tiles that are all pairs pay nothing."""
    BLOCK_M: tl.constexpr = tile.rows.shape[0]
    BLOCK_N: tl.constexpr = tile.cols.shape[0]
    at_the_end = (tile.row_start + BLOCK_M > tile.num_rows) | (tile.col_start + BLOCK_N > tile.num_cols)
    if at_the_end | may_exclude(relation, tile):
        scores = tl.where(relation_mask(relation, tile), scores, float("-inf"))
    return scores


@triton.jit
def lse_of_rows(scores, state):
    """The state with a tile more; scores are those of `lse_scores`."""
    top = tl.maximum(state[0], tl.max(scores, 1))
    shift = finite_or_zero(top)
    return top, state[1] * exponential(state[0] - shift) + tl.sum(exponential(scores - shift[:, None]), 1)


@triton.jit
def lse_of_cols(scores):
    """The state of a tile's columns."""
    top = tl.max(scores, 0)
    shift = finite_or_zero(top)
    return top, tl.sum(exponential(scores - shift[None, :]), 0)


@triton.jit
def positive_infinity_if_empty(lse):
    """-inf (no pairs) and lines beyond the end become +inf: exp(t - lse) is then 0, as the gradient must be."""
    return tl.where(lse == float("-inf"), float("inf"), lse)


@triton.jit
def add_lse_slope(reduction, scores, ds, unit, tile):
    """ds_ij + unit * (g_i exp(t_ij - lse_i) + h_j exp(t_ij - lse_j))"""
    scores = lse_scores(scores, reduction.relation, tile)
    if len(reduction.rows) != 0:
        g = load_rows(reduction.rows[0], tile, 0.0) * unit
        lse = positive_infinity_if_empty(load_rows(reduction.rows[1], tile, float("inf")))
        ds += g[:, None] * exponential(scores - lse[:, None])
    if len(reduction.cols) != 0:
        h = load_cols(reduction.cols[0], tile, 0.0) * unit
        lse = positive_infinity_if_empty(load_cols(reduction.cols[1], tile, float("inf")))
        ds += h[None, :] * exponential(scores - lse[None, :])
    return ds

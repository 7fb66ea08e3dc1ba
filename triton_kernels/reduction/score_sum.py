"""The sum of the scores of a line.

sum = sum t
dsum / dt = 1
"""

import triton
import triton.language as tl

from contrastive_ops.triton_kernels.relation import may_include, relation_mask
from contrastive_ops.triton_kernels.tile import load_cols, load_rows


@triton.jit
def sum_neutral(SIZE: tl.constexpr, dtype: tl.constexpr):
    return (tl.zeros((SIZE,), dtype),)


@triton.jit
def sum_merge(first, second):
    return (first[0] + second[0],)


@triton.jit
def sum_scores(scores, mask):
    return tl.where(mask, scores, 0.0)


@triton.jit
def sum_of_lines(scores, axis: tl.constexpr):
    """The state of a tile's rows (axis 1) or columns (0); scores are those of `sum_scores`."""
    return (tl.sum(scores, axis),)


@triton.jit
def add_sum_slope(reduction, ds, unit, tile):
    """ds_ij + unit * (a_i + b_j) where (i, j) is a pair of the relation."""
    if may_include(reduction.relation, tile):
        if len(reduction.rows) != 0:
            weight = (load_rows(reduction.rows[0], tile, 0.0) * unit)[:, None]
            if len(reduction.cols) != 0:
                weight += (load_cols(reduction.cols[0], tile, 0.0) * unit)[None, :]
        else:
            weight = (load_cols(reduction.cols[0], tile, 0.0) * unit)[None, :]
        ds = tl.where(relation_mask(reduction.relation, tile), ds + weight, ds)
    return ds

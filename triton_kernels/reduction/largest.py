"""The largest score of a line, NaN where the line has one. Without a gradient."""

import triton
import triton.language as tl


@triton.jit
def largest_neutral(SIZE: tl.constexpr, dtype: tl.constexpr):
    return (tl.full((SIZE,), float("-inf"), dtype),)


@triton.jit
def largest_merge(first, second):
    return (tl.maximum(first[0], second[0], propagate_nan=tl.PropagateNan.ALL),)


@triton.jit
def largest_scores(scores, mask):
    return tl.where(mask, scores, float("-inf"))


@triton.jit
def largest_of_lines(scores, axis: tl.constexpr):
    """The state of a tile's rows (axis 1) or columns (0); scores are those of `largest_scores`."""
    has_nan = tl.max(tl.where(scores != scores, 1, 0), axis)  # which the largest of floats leaves out
    return (tl.where(has_nan > 0, float("nan"), tl.max(scores, axis)),)

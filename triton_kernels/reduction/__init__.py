"""What lines of scores are reduced to: neutral states, what a tile adds to them, how two merge, results and slopes.

Relations, scores and walks over tiles know nothing of what is behind these functions. A new reduction is a module like
`score_sum` and a branch in each of them. States are tuples of as many numbers a line as `Reduction.num_states` says.
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl

from contrastive_ops.reductions import ReductionKind
from contrastive_ops.triton_kernels.reduction.count_above import (
    count_merge,
    count_neutral,
    count_of_cols,
    count_of_rows,
)
from contrastive_ops.triton_kernels.reduction.largest import (
    largest_merge,
    largest_neutral,
    largest_of_lines,
    largest_scores,
)
from contrastive_ops.triton_kernels.reduction.log_sum_exp import (
    add_lse_slope,
    lse_finish,
    lse_merge,
    lse_neutral,
    lse_of_cols,
    lse_of_rows,
    lse_scores,
)
from contrastive_ops.triton_kernels.reduction.score_sum import (
    add_sum_slope,
    sum_merge,
    sum_neutral,
    sum_of_lines,
    sum_scores,
)
from contrastive_ops.triton_kernels.relation import may_include, relation_mask

LOG_SUM_EXP = tl.constexpr(int(ReductionKind.LOG_SUM_EXP))
SCORE_SUM = tl.constexpr(int(ReductionKind.SCORE_SUM))
LARGEST = tl.constexpr(int(ReductionKind.LARGEST))
COUNT_ABOVE = tl.constexpr(int(ReductionKind.COUNT_ABOVE))


class Reduction(NamedTuple):
    """A reduction as a kernel argument. What is absent is `()`: Triton before 3.7 takes no None inside of tuples."""

    kind: Any  # constexpr, a ReductionKind
    relation: Any  # tuple of clauses
    factor: Any  # ([] statistics dtype,): t_ij = factor * s_ij
    # score pass: partials of every number of the state, [slots, B, M]; gradient pass: (upstream, result if the slope is
    # one of it), [B, M]; () where this direction is not wanted
    rows: Any
    cols: Any
    row_values: Any = ()  # ([B, M],): what scores are compared with
    col_values: Any = ()


class Partials(NamedTuple):
    """States of a reduction along one direction as arguments of the merge, and what they become."""

    kind: Any  # constexpr, a ReductionKind
    states: Any  # [slots, size] each
    result: Any  # [size]


class Slots(NamedTuple):
    """Where the columns of a tile lie in the partials of its program."""

    offsets: Any  # [BLOCK_N]
    in_range: Any  # [BLOCK_N] of bool
    seen: Any  # [BLOCK_N] of bool: what the program has written before


@triton.jit
def neutral_state(kind: tl.constexpr, SIZE: tl.constexpr, dtype: tl.constexpr):
    """Of lines without pairs; dtype is that of the scores."""
    if kind == LOG_SUM_EXP:
        return lse_neutral(SIZE, dtype)
    elif kind == LARGEST:
        return largest_neutral(SIZE, dtype)
    elif kind == COUNT_ABOVE:
        return count_neutral(SIZE)
    else:
        return sum_neutral(SIZE, dtype)


@triton.jit
def merge_states(kind: tl.constexpr, first, second):
    """Of two disjoint sets of pairs."""
    if kind == LOG_SUM_EXP:
        return lse_merge(first, second)
    elif kind == LARGEST:
        return largest_merge(first, second)
    elif kind == COUNT_ABOVE:
        return count_merge(first, second)
    else:
        return sum_merge(first, second)


@triton.jit
def finish_state(kind: tl.constexpr, state):
    """The number of each line."""
    if kind == LOG_SUM_EXP:
        return lse_finish(state)
    else:
        return state[0]


@triton.jit
def shifted(pointers, offset):
    found = ()
    for s in tl.static_range(len(pointers)):
        found = found + (pointers[s] + offset,)
    return found


@triton.jit
def load_state(pointers, offsets, mask, neutral):
    state = ()
    for s in tl.static_range(len(pointers)):
        state = state + (tl.load(pointers[s] + offsets, mask=mask, other=neutral[s]),)
    return state


@triton.jit
def store_state(pointers, offsets, mask, state):
    for s in tl.static_range(len(pointers)):
        tl.store(pointers[s] + offsets, state[s], mask=mask)


@triton.jit
def scaled(reduction, scores):
    """t_ij"""
    if len(reduction.factor) != 0:
        scores = scores * tl.load(reduction.factor[0])
    return scores


@triton.jit
def take_tile(reduction, state, scores, tile, slots, SELF: tl.constexpr):
    """The rows' state with the pairs of a tile; that of the columns is in the partials, where they are added.

    The partials of reductions that leave out tiles without pairs are neutral from the start.
    """
    scores = scaled(reduction, scores)
    if reduction.kind == LOG_SUM_EXP:
        scores = lse_scores(scores, reduction.relation, tile)
        if len(reduction.rows) != 0:
            state = lse_of_rows(scores, state)
        if len(reduction.cols) != 0:
            add_to_slots(reduction, lse_of_cols(scores), tile, slots, slots.seen, SELF)
    else:
        if may_include(reduction.relation, tile):
            mask = relation_mask(reduction.relation, tile)
            if reduction.kind == SCORE_SUM:
                scores = sum_scores(scores, mask)
            if reduction.kind == LARGEST:
                scores = largest_scores(scores, mask)
            if len(reduction.rows) != 0:
                state = merge_states(reduction.kind, state, state_of_rows(reduction, scores, mask, tile))
            if len(reduction.cols) != 0:
                found = state_of_cols(reduction, scores, mask, tile)
                add_to_slots(reduction, found, tile, slots, slots.in_range, SELF)
    return state


@triton.jit
def state_of_rows(reduction, scores, mask, tile):
    if reduction.kind == LARGEST:
        return largest_of_lines(scores, 1)
    elif reduction.kind == COUNT_ABOVE:
        return count_of_rows(reduction, scores, mask, tile)
    else:
        return sum_of_lines(scores, 1)


@triton.jit
def state_of_cols(reduction, scores, mask, tile):
    if reduction.kind == LARGEST:
        return largest_of_lines(scores, 0)
    elif reduction.kind == COUNT_ABOVE:
        return count_of_cols(reduction, scores, mask, tile)
    else:
        return sum_of_lines(scores, 0)


@triton.jit
def add_to_slots(reduction, found, tile, slots, seen, SELF: tl.constexpr):
    """Merges a tile's state of its columns into their partials, where `seen` says which of them hold anything."""
    BLOCK_N: tl.constexpr = tile.cols.shape[0]
    neutral = neutral_state(reduction.kind, BLOCK_N, found[0].dtype)
    if SELF:
        # a diagonal tile is symmetric: its columns are counted as rows already
        counted = ()
        for s in tl.static_range(len(found)):
            counted = counted + (tl.where(tile.col_start == tile.row_start, neutral[s], found[s]),)
        found = counted
    before = load_state(reduction.cols, slots.offsets, seen, neutral)
    store_state(reduction.cols, slots.offsets, slots.in_range, merge_states(reduction.kind, before, found))


@triton.jit
def score_gradient(reductions, scores, unit, tile):
    """unit * dS of a tile, in the statistics dtype: dS_ij = sum over reductions of factor * slope_ij"""
    ds = tl.zeros_like(scores)
    for r in tl.static_range(len(reductions)):
        ds = add_slope(reductions[r], scores, ds, unit, tile)
    return ds


@triton.jit
def add_slope(reduction, scores, ds, unit, tile):
    """ds + unit * factor * slope, for reductions that have a slope."""
    if len(reduction.factor) != 0:
        unit = unit * tl.load(reduction.factor[0])
    if reduction.kind == LOG_SUM_EXP:
        return add_lse_slope(reduction, scaled(reduction, scores), ds, unit, tile)
    else:
        return add_sum_slope(reduction, ds, unit, tile)

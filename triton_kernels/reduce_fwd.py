"""Score pass: all reductions of rows and columns from one visit of every tile, and the ordered merge of partials."""

import triton
import triton.language as tl

from contrastive_ops.triton_kernels.reduction import (
    Slots,
    finish_state,
    load_state,
    merge_states,
    neutral_state,
    shifted,
    store_state,
    take_tile,
)
from contrastive_ops.triton_kernels.score import scaled_scores, score_coordinates, score_value
from contrastive_ops.triton_kernels.tile import Vectors, inside, load_vectors, products, tile_at

STRIPES_SIDE_BY_SIDE = tl.constexpr(8)


@triton.jit(
    do_not_specialize=[
        "num_rows",
        "num_cols",
        "row_stripe",
        "col_stripe",
        "num_row_stripes",
        "num_col_stripes",
    ]
)
def reduce_fwd_kernel(
    row_data,  # [B, M, D]
    row_strides,  # Strides, or () with descriptors
    col_data,  # [B, N, K, D]
    col_strides,
    score,  # Score
    scale,  # []
    row_bias,  # [B, M] statistics dtype, or None
    col_bias,  # [B, N]
    reductions,  # tuple of Reduction, with partials [col stripes (+ 1), B, M] and [row stripes, B, N]
    kept,  # [B, M, N] statistics dtype: <q_i, k_j> for the gradient pass, or None; of inner products
    num_rows,
    num_cols,
    D,
    row_stripe,  # rows of a stripe, a multiple of BLOCK_M
    col_stripe,  # columns of a stripe, a multiple of BLOCK_N
    num_row_stripes,
    num_col_stripes,
    SELF: tl.constexpr,  # columns are the rows: upper triangle, and their states are row states
    BANKS: tl.constexpr,  # K
    RESIDENT: tl.constexpr,  # BLOCK_D holds the whole of D, and there is one bank
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """A program owns a stripe of rows times a stripe of columns, and so its slots of the partials: no atomics.

    Rows are finished one tile at a time in registers; the column partials go to memory and back, where only this
    program sees them.
    """
    # a stripe of rows is a slot of the column partials, and the other way round; programs that run side by side form a
    # block of stripes, so that the second-level cache holds the embeddings of both sides
    row_slot, col_slot = tl.swizzle2d(
        tl.program_id(0) // num_col_stripes,
        tl.program_id(0) % num_col_stripes,
        num_row_stripes,
        num_col_stripes,
        STRIPES_SIDE_BY_SIDE,
    )
    batch = tl.program_id(1)
    num_batches = tl.num_programs(1)
    if SELF:
        if row_slot > col_slot:
            return
    ACCUMULATOR: tl.constexpr = scale.dtype.element_ty
    scale_value = tl.load(scale)
    row_vectors, col_vectors = Vectors(row_data, row_strides, num_rows), Vectors(col_data, col_strides, num_cols)
    row_out = (col_slot.to(tl.int64) * num_batches + batch) * num_rows
    if SELF:
        # the columns of a diagonal stripe are the rows of the same stripe: their second role has a slot of its own
        second = tl.where(row_slot == col_slot, num_col_stripes, row_slot)
        col_out = (second.to(tl.int64) * num_batches + batch) * num_cols
    else:
        col_out = (row_slot.to(tl.int64) * num_batches + batch) * num_cols

    first_row = row_slot * row_stripe
    for row_start in range(first_row, tl.minimum(first_row + row_stripe, num_rows), BLOCK_M):
        rows = row_start + tl.arange(0, BLOCK_M)
        states = ()
        for r in tl.static_range(len(reductions)):
            states = states + (neutral_state(reductions[r].kind, BLOCK_M, ACCUMULATOR),)
        if RESIDENT:
            row_tile = load_vectors(row_vectors, batch, row_start, 0, D, BLOCK_M, BLOCK_D)
        else:
            row_tile = None
        first_col = col_slot * col_stripe
        last_col = tl.minimum(first_col + col_stripe, num_cols)
        if SELF:
            if row_slot == col_slot:
                first_col = row_start
        for col_start in range(first_col, last_col, BLOCK_N):
            tile = tile_at(batch, row_start, num_rows, col_start, num_cols, BLOCK_M, BLOCK_N)
            if RESIDENT:
                col_tile = load_vectors(col_vectors, batch, col_start, 0, D, BLOCK_N, BLOCK_D)
                dots = (tl.dot(row_tile, tl.trans(col_tile), input_precision=PRECISION, out_dtype=ACCUMULATOR),)
            else:
                dots = products(row_vectors, col_vectors, tile, D, BANKS, BLOCK_D, PRECISION, ACCUMULATOR)
            if kept is not None:
                kept_lines = batch.to(tl.int64) * num_rows + tile.rows
                tl.store(kept + kept_lines[:, None] * num_cols + tile.cols[None, :], dots[0], mask=inside(tile))
            values = score_value(score, score_coordinates(score, dots, tile), tile)
            scores = scaled_scores(values, scale_value, row_bias, col_bias, tile)
            in_range = tile.cols < num_cols
            slots = Slots(col_out + tile.cols, in_range, in_range & (row_start > first_row))
            taken = ()
            for r in tl.static_range(len(reductions)):
                taken = taken + (take_tile(reductions[r], states[r], scores, tile, slots, SELF),)
            states = taken
        # the next tile of rows reads what other threads of this program have written
        tl.debug_barrier()
        for r in tl.static_range(len(reductions)):
            store_state(shifted(reductions[r].rows, row_out), rows, rows < num_rows, states[r])


@triton.jit(do_not_specialize=["size", "num_slots"])
def merge_states_kernel(
    partials,  # tuple of Partials, size = B * lines
    size,
    num_slots,
    BLOCK: tl.constexpr,
):
    """The results of each line over its slots, in the order of the slots."""
    lines = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    in_range = lines < size
    neutral = ()
    for p in tl.static_range(len(partials)):
        neutral = neutral + (neutral_state(partials[p].kind, BLOCK, partials[p].result.dtype.element_ty),)
    states = neutral
    for slot in range(num_slots):
        offsets = slot * size.to(tl.int64) + lines
        merged = ()
        for p in tl.static_range(len(partials)):
            found = load_state(partials[p].states, offsets, in_range, neutral[p])
            merged = merged + (merge_states(partials[p].kind, states[p], found),)
        states = merged
    for p in tl.static_range(len(partials)):
        tl.store(partials[p].result + lines, finish_state(partials[p].kind, states[p]), mask=in_range)

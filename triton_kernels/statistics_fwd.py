"""Score pass: row and column statistics from one visit of every tile, and the fixed-order merge of its partials."""

import triton
import triton.language as tl

from contrastive_ops.triton_kernels.relation import may_include, relation_mask
from contrastive_ops.triton_kernels.score import score_coordinates, score_value
from contrastive_ops.triton_kernels.tile import add_biases, exponential, load_rows, mask_candidates, products

STRIPES_SIDE_BY_SIDE = tl.constexpr(8)


@triton.jit
def finite_or_zero(top):
    """A shift that keeps exp(s - shift) free of inf - inf: lines without candidates, or with an infinite score."""
    return tl.where(tl.abs(top) == float("inf"), 0.0, top)


@triton.jit
def merge_online(top, total, new_top, new_total):
    """(top, total) of the union of two sets of candidates."""
    merged = tl.maximum(top, new_top)
    shift = finite_or_zero(merged)
    return merged, total * exponential(top - shift) + new_total * exponential(new_top - shift)


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
def statistics_fwd_kernel(
    row_data,  # [B, M, D]
    row_strides,  # Strides, or () with descriptors
    col_data,  # [B, N, K, D]
    col_strides,
    score,  # Score
    scale,  # []
    row_lines,  # Lines: biases
    col_lines,
    candidates,  # tuple of Clause
    positives,
    row_partials,  # Partials [col stripes (+ 1), B, M]
    col_partials,  # Partials [row stripes, B, N]
    kept,  # [B, M, N] statistics dtype: <q_i, k_j> for the gradient pass, or None; of inner products
    num_rows,
    num_cols,
    D,
    row_stripe,  # rows of a stripe, a multiple of BLOCK_M
    col_stripe,  # columns of a stripe, a multiple of BLOCK_N
    num_row_stripes,
    num_col_stripes,
    SELF: tl.constexpr,  # columns are the rows: upper triangle, and their statistics are row statistics
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
        row_top = tl.full((BLOCK_M,), float("-inf"), ACCUMULATOR)
        row_total = tl.zeros((BLOCK_M,), ACCUMULATOR)
        row_positive = tl.zeros((BLOCK_M,), ACCUMULATOR)
        if RESIDENT:
            row_tile = load_rows(row_data, row_strides, batch, row_start, num_rows, 0, D, BLOCK_M, BLOCK_D)
        else:
            row_tile = None
        first_col = col_slot * col_stripe
        last_col = tl.minimum(first_col + col_stripe, num_cols)
        if SELF:
            if row_slot == col_slot:
                first_col = row_start
        for col_start in range(first_col, last_col, BLOCK_N):
            cols = col_start + tl.arange(0, BLOCK_N)
            if RESIDENT:
                col_tile = load_rows(col_data, col_strides, batch, col_start, num_cols, 0, D, BLOCK_N, BLOCK_D)
                dots = (tl.dot(row_tile, tl.trans(col_tile), input_precision=PRECISION, out_dtype=ACCUMULATOR),)
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
            if kept is not None:
                keep = (rows < num_rows)[:, None] & (cols < num_cols)[None, :]
                kept_lines = batch.to(tl.int64) * num_rows + rows
                tl.store(kept + kept_lines[:, None] * num_cols + cols[None, :], dots[0], mask=keep)
            coordinates = score_coordinates(score, dots, batch, cols, num_cols)
            values = score_value(score, coordinates, batch, rows, num_rows, cols, num_cols)
            scores = add_biases(values, scale_value, row_lines, col_lines, batch, rows, num_rows, cols, num_cols)
            col_out_pointers = col_out + cols
            in_range = cols < num_cols
            seen = in_range & (row_start > first_row)  # what this program has written before

            if row_partials.positive is not None or col_partials.positive is not None:
                if may_include(positives, row_start, col_start, BLOCK_M, BLOCK_N):
                    mask = relation_mask(positives, batch, rows, cols, num_rows, num_cols)
                    chosen = tl.where(mask, scores, 0.0)
                    if row_partials.positive is not None:
                        row_positive += tl.sum(chosen, 1)
                    if col_partials.positive is not None:
                        counted = tl.sum(chosen, 0)
                        if SELF:
                            # a diagonal tile is symmetric: its columns are counted as rows already
                            counted = tl.where(col_start == row_start, 0.0, counted)
                        before = tl.load(col_partials.positive + col_out_pointers, mask=in_range, other=0.0)
                        tl.store(col_partials.positive + col_out_pointers, before + counted, mask=in_range)

            scores = mask_candidates(
                scores, candidates, batch, row_start, rows, num_rows, col_start, cols, num_cols, BLOCK_M, BLOCK_N
            )
            if row_partials.top is not None:
                top = tl.maximum(row_top, tl.max(scores, 1))
                shift = finite_or_zero(top)
                row_total = row_total * exponential(row_top - shift) + tl.sum(exponential(scores - shift[:, None]), 1)
                row_top = top
            if col_partials.top is not None:
                top = tl.max(scores, 0)
                shift = finite_or_zero(top)
                total = tl.sum(exponential(scores - shift[None, :]), 0)
                if SELF:
                    top = tl.where(col_start == row_start, float("-inf"), top)
                    total = tl.where(col_start == row_start, 0.0, total)
                top_before = tl.load(col_partials.top + col_out_pointers, mask=seen, other=float("-inf"))
                total_before = tl.load(col_partials.total + col_out_pointers, mask=seen, other=0.0)
                top, total = merge_online(top_before, total_before, top, total)
                tl.store(col_partials.top + col_out_pointers, top, mask=in_range)
                tl.store(col_partials.total + col_out_pointers, total, mask=in_range)
        # the next tile of rows reads what other threads of this program have written
        tl.debug_barrier()
        if row_partials.top is not None:
            tl.store(row_partials.top + row_out + rows, row_top, mask=rows < num_rows)
            tl.store(row_partials.total + row_out + rows, row_total, mask=rows < num_rows)
        if row_partials.positive is not None:
            tl.store(row_partials.positive + row_out + rows, row_positive, mask=rows < num_rows)


@triton.jit(do_not_specialize=["size", "num_slots"])
def merge_partials_kernel(
    partials,  # Partials [num_slots, size], size = B * lines
    lse,  # [size]
    positive_sum,  # [size] or None
    size,
    num_slots,
    BLOCK: tl.constexpr,
):
    """lse = top + log(total) over the slots of each line, in the order of the slots."""
    lines = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    in_range = lines < size
    ACCUMULATOR: tl.constexpr = lse.dtype.element_ty
    top = tl.full((BLOCK,), float("-inf"), ACCUMULATOR)
    total = tl.zeros((BLOCK,), ACCUMULATOR)
    positive = tl.zeros((BLOCK,), ACCUMULATOR)
    for slot in range(num_slots):
        offsets = slot * size.to(tl.int64) + lines
        slot_top = tl.load(partials.top + offsets, mask=in_range, other=float("-inf"))
        slot_total = tl.load(partials.total + offsets, mask=in_range, other=0.0)
        top, total = merge_online(top, total, slot_top, slot_total)
        if positive_sum is not None:
            positive += tl.load(partials.positive + offsets, mask=in_range, other=0.0)
    tl.store(lse + lines, finite_or_zero(top) + tl.log(total), mask=in_range)
    if positive_sum is not None:
        tl.store(positive_sum + lines, positive, mask=in_range)

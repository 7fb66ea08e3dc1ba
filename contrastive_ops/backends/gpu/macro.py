"""Gradient pass in two levels: the weights of a macro-block go to a workspace, which two products a bank read."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from contrastive_ops.backends.gpu.kernels import MACRO_BYTES, MACRO_ROWS, Kernels, LineSums, MacroBlock
from contrastive_ops.backends.gpu.view import View

ALIGNMENT = 8  # numbers of half precision: 16 bytes, what copy engines want rows to be apart


class Totals(NamedTuple):
    """The gradients that a pass fills, uninitialised; None: not wanted."""

    queries: Tensor | None  # [B, M, D], any dtype
    keys: Tensor | None  # [B, N, D] or [B, K, N, D]
    lines: LineSums  # [B, M] for rows, [B, N] for columns


def macro_gradients(
    view: View, kernels: Kernels, totals: Totals, kept: Tensor | None, self_similarity: bool, wants_scale: bool
) -> Tensor | None:
    """Macro-block after macro-block: weights once, then dQ += weights^s K^s and dK^s += weights^s^T Q for every bank s.

    In self-similarity dS holds both roles of a pair, so blocks below the diagonal are mirror images.
    Returns the terms of dscale, if it is wanted.
    """
    batch = view.sizes[0]
    queries, banks = view.rows.embeddings, view.cols.banks
    new = view.scale.new_empty
    blocks = macro_blocks(view, self_similarity)
    height, width = (max(map(_length, sides)) for sides in zip(*blocks, strict=True))
    wants_products = totals.queries is not None or totals.keys is not None
    workspace = queries.new_empty(len(banks), height, -(-width // ALIGNMENT) * ALIGNMENT) if wants_products else None
    grids = [kernels.macro_grid(view, _length(rows), _length(cols), kept is not None) for rows, cols in blocks]
    counts = [grid[0] * grid[1] for grid in grids] * batch
    terms = new((sum(counts),)) if wants_scale else None
    # accumulated in the statistics dtype, in place where that is the dtype of the gradient
    sums = [
        None if gradient is None else (gradient if gradient.dtype == view.scale.dtype else new(gradient.shape)).zero_()
        for gradient in (totals.queries, totals.keys)
    ]
    dq_sum, dk_sum = sums
    dk_banks = None if dk_sum is None else dk_sum.view(batch, len(banks), -1, dk_sum.shape[-1])
    for line in totals.lines:
        if line is not None:
            line.zero_()
    start = 0
    for i, count in enumerate(counts):
        b, (rows, cols), grid = i // len(blocks), blocks[i % len(blocks)], grids[i % len(blocks)]
        part = None if terms is None else terms[start : start + count]
        start += count
        weights = None if workspace is None else workspace[:, : _length(rows), : _length(cols)]
        # the sum over both roles counts a pair twice, and only half of the blocks off the diagonal are visited
        weight = 0.5 if self_similarity and rows == cols else 1.0
        products = None if kept is None else kept[b]
        lines = _at(totals.lines, b, rows, cols)
        slots = _slots(lines, grid)
        kernels.macro_gradient(view.at(b), MacroBlock(rows, cols, weights, products, part, weight, slots))
        for line, parts in zip(lines, slots, strict=True):
            if line is not None and parts is not None:
                line += parts.sum(0)
        if weights is None:
            continue
        for s, bank in enumerate(banks):
            if dq_sum is not None:
                kernels.macro_product(weights[s], bank[b, cols], dq_sum[b, rows], False)
                if self_similarity and rows != cols:
                    kernels.macro_product(weights[s], queries[b, rows], dq_sum[b, cols], True)
            if dk_banks is not None:
                kernels.macro_product(weights[s], queries[b, rows], dk_banks[b, s, cols], True)
    factor = view.scale if view.unit is None else view.scale / view.unit
    for total, gradient in zip(sums, (totals.queries, totals.keys), strict=True):
        if total is not None and gradient is not None:
            total.mul_(factor)
            if gradient is not total:
                gradient.copy_(total)
    row_bias, col_bias, row_term, col_term = totals.lines
    for line in (row_bias, col_bias):
        if line is not None and view.unit is not None:
            line.div_(view.unit)
    for line in (row_term, col_term):
        if line is not None:
            line.mul_(factor)
    return terms


def macro_blocks(view: View, self_similarity: bool) -> list[tuple[slice, slice]]:
    """The blocks of dS in the order of their sums: squares on and above the diagonal in self-similarity, where both
    sides are cut alike. A score of more products has narrower ones, of whole tiles."""
    _, m, n, _ = view.sizes
    height = MACRO_ROWS
    widest = MACRO_BYTES // (view.rows.embeddings.itemsize * height * len(view.cols.banks))
    width = height if self_similarity else 1 << (widest.bit_length() - 1)
    return [
        (slice(i, min(i + height, m)), slice(j, min(j + width, n)))
        for i in range(0, m, height)
        for j in range(i if self_similarity else 0, n, width)
    ]


def _at(lines: LineSums, b: int, rows: slice, cols: slice) -> LineSums:
    """The part of a macro-block."""
    sides = (rows, cols, rows, cols)
    return LineSums(*(None if line is None else line[b, side] for line, side in zip(lines, sides, strict=True)))


def _slots(lines: LineSums, grid: tuple[int, int]) -> LineSums:
    """A slot for each tile that a line crosses."""
    down, across = grid
    counts = (across, down, across, down)
    return LineSums(
        *(None if x is None else x.new_empty((count, len(x))) for x, count in zip(lines, counts, strict=True))
    )


def _length(part: slice) -> int:
    length: int = part.stop - part.start
    return length

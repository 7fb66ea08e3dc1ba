"""A gradient pass in two levels as launches from Python, for kernels without a loop of their own."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from contrastive_ops.backends.gpu.kernels import GradientSum, LineSums, MacroBlock, MacroPass, Place
from contrastive_ops.backends.gpu.view import View


class BlockKernels(Protocol):
    """A method puts one launch on the stream and returns."""

    def macro_gradient(self, view: View, block: MacroBlock) -> None:
        """The weights of the block's products and its lines' sums, of a view of one batch entry."""

    def macro_product(self, weights: Tensor, other: Tensor, gradient: Tensor, transposed: bool) -> None:
        """gradient `[lines, D]` += weights other, or weights^T other, with `other [depth, D]` and the weights of one
        bank, a view of their workspace."""


def run_block_by_block(kernels: BlockKernels, view: View, work: MacroPass) -> None:
    sums = [x for x in (work.queries, work.keys) if x is not None]
    for total in (*(x.sum for x in sums), *(x for x in work.lines if x is not None)):
        total.zero_()
    for b in range(view.sizes[0]):
        for place in work.places:
            _run_block(kernels, view, work, b, place)
    factor = view.scale if view.unit is None else view.scale / view.unit
    for x in sums:
        x.sum.mul_(factor)
        if x.gradient is not x.sum:
            x.gradient.copy_(x.sum)
    row_bias, col_bias, row_term, col_term = work.lines
    for line in (row_bias, col_bias):
        if line is not None and view.unit is not None:
            line.div_(view.unit)
    for line in (row_term, col_term):
        if line is not None:
            line.mul_(factor)


def _run_block(kernels: BlockKernels, view: View, work: MacroPass, b: int, place: Place) -> None:
    rows, cols, grid, first_term = place
    last_term = first_term + grid[0] * grid[1]
    is_mirrored = work.self_similarity and rows != cols
    # the sum over both roles counts a pair twice, and only half of the blocks off the diagonal are visited
    weight = 0.5 if work.self_similarity and not is_mirrored else 1.0
    weights = None if work.weights is None else work.weights[:, : rows.stop - rows.start, : cols.stop - cols.start]
    kept = None if work.kept is None else work.kept[b]
    terms = None if work.d_scale is None else work.d_scale[b, first_term:last_term]
    lines, parts = _at(work.lines, b, place), _slots(work.parts, place)
    kernels.macro_gradient(view.at(b), MacroBlock(rows, cols, weights, kept, terms, weight, parts))
    for line, part in zip(lines, parts, strict=True):
        if line is not None and part is not None:
            line += part.sum(0)
    if weights is None:
        return
    queries = view.rows.embeddings[b, rows]
    dq, dk = _banks(work.queries, b), _banks(work.keys, b)
    for s, bank in enumerate(view.cols.banks):
        if dq is not None:
            kernels.macro_product(weights[s], bank[b, cols], dq[0, rows], False)
            if is_mirrored:
                kernels.macro_product(weights[s], queries, dq[0, cols], True)
        if dk is not None:
            kernels.macro_product(weights[s], queries, dk[s, cols], True)


def _banks(sums: GradientSum | None, b: int) -> Tensor | None:
    """`[K, size, D]` of a batch entry."""
    if sums is None:
        return None
    entry = sums.sum[b]
    return entry if entry.dim() == 3 else entry.unsqueeze(0)


def _at(lines: LineSums, b: int, place: Place) -> LineSums:
    """The part of a macro-block."""
    sides = (place.rows, place.cols) * 2
    return LineSums(*(None if line is None else line[b, side] for line, side in zip(lines, sides, strict=True)))


def _slots(parts: LineSums, place: Place) -> LineSums:
    """A slot for each tile that a line crosses."""
    down, across = place.grid
    shapes = ((across, place.rows), (down, place.cols)) * 2
    return LineSums(
        *(
            None if x is None else x[: count * (side.stop - side.start)].view(count, -1)
            for x, (count, side) in zip(parts, shapes, strict=True)
        )
    )

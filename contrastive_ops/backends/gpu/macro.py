"""Gradient pass in two levels: the weights of a macro-block go to a workspace, which two products a bank read."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from contrastive_ops.backends.gpu.kernels import (
    MACRO_BYTES,
    MACRO_ROWS,
    GradientSum,
    Kernels,
    LineSums,
    MacroPass,
    Place,
)
from contrastive_ops.backends.gpu.view import View

ALIGNMENT = 16  # numbers that rows are apart: twice what copy engines want, and all that a compiler asks of a stride


class Totals(NamedTuple):
    """The gradients that a pass fills, uninitialised; None: not wanted."""

    queries: Tensor | None  # [B, M, D], any dtype
    keys: Tensor | None  # [B, N, D] or [B, K, N, D]
    lines: LineSums  # [B, M] for rows, [B, N] for columns


def macro_gradients(
    view: View, kernels: Kernels, totals: Totals, kept: Tensor | None, self_similarity: bool, wants_scale: bool
) -> Tensor | None:
    """Macro-block after macro-block; all memory is allocated here. Returns the terms of dscale, if it is wanted."""
    new = view.scale.new_empty
    places = _places(view, kernels, self_similarity, kept is not None)
    height, width = max(_length(x.rows) for x in places), max(_length(x.cols) for x in places)
    wants_products = totals.queries is not None or totals.keys is not None
    stride = -(-width // ALIGNMENT) * ALIGNMENT
    work = MacroPass(
        places,
        self_similarity,
        kept,
        view.rows.embeddings.new_empty((view.num_banks, height, stride)) if wants_products else None,
        new((view.sizes[0], _end_of_terms(places[-1]))) if wants_scale else None,
        _gradient_sum(totals.queries, view),
        _gradient_sum(totals.keys, view),
        totals.lines,
        LineSums(*(None if x is None else new((_most_parts(places, i % 2),)) for i, x in enumerate(totals.lines))),
    )
    kernels.macro_pass(view, work)
    return work.d_scale


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


def _places(view: View, kernels: Kernels, self_similarity: bool, is_kept: bool) -> list[Place]:
    grids: dict[tuple[int, int], tuple[int, int]] = {}  # of the few sizes that there are
    places: list[Place] = []
    first_term = 0
    for rows, cols in macro_blocks(view, self_similarity):
        size = (rows.stop - rows.start, cols.stop - cols.start)
        grid = grids.get(size)
        if grid is None:
            grid = grids[size] = kernels.macro_grid(view, *size, is_kept)
        places.append(Place(rows, cols, grid, first_term))
        first_term += grid[0] * grid[1]
    return places


def _end_of_terms(last: Place) -> int:
    return last.first_term + last.grid[0] * last.grid[1]


def _gradient_sum(gradient: Tensor | None, view: View) -> GradientSum | None:
    """In place where the gradient has the statistics dtype."""
    if gradient is None:
        return None
    in_place = gradient.dtype == view.scale.dtype
    return GradientSum(gradient if in_place else view.scale.new_empty(gradient.shape), gradient)


def _most_parts(places: list[Place], of_cols: int) -> int:
    """Numbers in the slots of a block's rows or columns: for each line one for each tile that it crosses."""
    return max(_length(x.cols) * x.grid[0] if of_cols else _length(x.rows) * x.grid[1] for x in places)


def _length(part: slice) -> int:
    length: int = part.stop - part.start
    return length

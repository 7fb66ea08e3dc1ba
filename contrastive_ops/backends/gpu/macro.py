"""Gradient pass in two levels: the weights of a macro-block go to a workspace, which two products a bank read."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from contrastive_ops.backends.gpu.gpu_size import gpu_size
from contrastive_ops.backends.gpu.kernels import GradientSum, Kernels, LineSums, MacroPass, Place, ceil_div
from contrastive_ops.backends.gpu.macro_plan import MacroBlocks, block_size
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
    of_queries, of_keys = totals.queries is not None, totals.keys is not None
    places = macro_places(view, kernels, self_similarity, kept is not None, of_queries, of_keys)
    height, width = max(_length(x.rows) for x in places), max(_length(x.cols) for x in places)
    stride = -(-width // ALIGNMENT) * ALIGNMENT
    lines = totals.lines
    # in self-similarity the columns of a block are rows of its mirror image
    summed = lines._replace(col_bias=lines.row_bias) if self_similarity else lines
    work = MacroPass(
        places,
        self_similarity,
        kept,
        view.problem.rows.vectors.new_empty((view.num_banks, height, stride)) if of_queries or of_keys else None,
        new((view.sizes[0], _end_of_terms(places[-1]))) if wants_scale else None,
        _gradient_sum(totals.queries, view),
        _gradient_sum(totals.keys, view),
        lines,
        LineSums(*(None if x is None else new((_most_parts(places, i % 2),)) for i, x in enumerate(summed))),
    )
    kernels.macro_pass(view, work)
    return work.d_scale


def macro_places(
    view: View, kernels: Kernels, self_similarity: bool, is_kept: bool, of_queries: bool, of_keys: bool
) -> list[Place]:
    """The blocks of dS in the order of their sums: squares on and above the diagonal in self-similarity."""
    _, m, n, d = view.sizes
    blocks = MacroBlocks(
        d,
        view.num_banks,
        view.dtype.itemsize,
        self_similarity,
        of_queries,
        of_keys,
        # also where products are kept, whose tiles divide these: the budget must not change the order of sums
        kernels.macro_tiles(view, False),
        gpu_size(view.scale.device),
    )
    height, width = block_size(blocks, m, n)
    down, across = kernels.macro_tiles(view, is_kept).scores
    places: list[Place] = []
    first_term = 0
    for i in range(0, m, height):
        for j in range(i if self_similarity else 0, n, width):
            rows, cols = slice(i, min(i + height, m)), slice(j, min(j + width, n))
            grid = ceil_div(_length(rows), down), ceil_div(_length(cols), across)
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

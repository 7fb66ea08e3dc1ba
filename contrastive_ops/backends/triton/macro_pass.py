"""A gradient pass in two levels: for each macro-block its weights, the sums along its lines, and its products.

Three launches at most for a block, each prepared once: only numbers change from block to block.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from contrastive_ops.backends.gpu.kernels import MacroPass, Place, ceil_div
from contrastive_ops.backends.gpu.view import View
from contrastive_ops.backends.triton.arguments import (
    Target,
    embedding_arguments,
    matrix_arguments,
    score_arguments,
    sides_by_line,
    sloping_lines,
)
from contrastive_ops.backends.triton.launch import Launch, RepeatedLaunch
from contrastive_ops.backends.triton.tile_choice import macro_gradient_tile, macro_product_tile
from contrastive_ops.triton_kernels import macro_bwd

SUMS_BLOCK = 256


def run_macro_pass(view: View, target: Target, work: MacroPass) -> None:
    sums = [x for x in (work.queries, work.keys) if x is not None]
    for total in (*(x.sum for x in sums), *(x for x in work.lines if x is not None)):
        total.zero_()
    launches = MacroLaunches(view, target, work)
    for entry in range(view.sizes[0]):
        for place in work.places:
            launches.run(entry, place)
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


class MacroLaunches:
    """The launches of a block of one entry of the batch."""

    def __init__(self, view: View, target: Target, work: MacroPass) -> None:
        self.view, self.target, self.work = view, target, work
        self.product_tile = macro_product_tile(view, target)
        self.gradient = RepeatedLaunch(macro_gradient_launch(view, target, work))
        has_lines = any(line is not None for line in work.lines)
        self.sums = RepeatedLaunch(macro_sums_launch(view, work)) if has_lines else None
        self.product = None if work.weights is None else RepeatedLaunch(macro_product_launch(view, target, work))
        self.weights_of_size: dict[tuple[int, int], dict[str, Any]] = {}

    def run(self, entry: int, place: Place) -> None:
        rows, cols, grid, first_term = place
        size = (rows.stop - rows.start, cols.stop - cols.start)
        block = {
            "entry": entry,
            "first_row": rows.start,
            "first_col": cols.start,
            "block_rows": size[0],
            "block_cols": size[1],
        }
        is_mirrored = self.work.self_similarity and rows != cols
        terms = 0 if self.work.d_scale is None else entry * self.work.d_scale.shape[1] + first_term
        # the sum over both roles counts a pair twice, and only half of the blocks off the diagonal are visited
        weight = 0.5 if self.work.self_similarity and not is_mirrored else 1.0
        self.gradient.run((*grid, 1), block | {"first_term": terms, "d_scale_weight": weight})
        if self.sums is not None:
            across, down = (ceil_div(length, SUMS_BLOCK) for length in (size[1], size[0]))
            self.sums.run((max(across, down), 1, 1), block | {"row_parts": grid[1], "col_parts": grid[0]})
        if self.product is not None:
            row_tiles, col_tiles = (ceil_div(length, self.product_tile.block_m) for length in size)
            has_rows = self.work.queries is not None
            has_cols = is_mirrored if self.work.self_similarity else self.work.keys is not None
            programs = row_tiles * has_rows + col_tiles * self.view.num_banks * has_cols
            slices = ceil_div(self.view.sizes[3], self.product_tile.block_n)
            tiles = {"row_tiles": row_tiles * has_rows, "col_tiles": col_tiles}
            self.product.run((programs, slices, 1), block | tiles | self._weights(size))

    def _weights(self, size: tuple[int, int]) -> dict[str, Any]:
        """Descriptors end where the block does."""
        found = self.weights_of_size.get(size)
        if found is None:
            assert self.work.weights is not None
            operands = product_operands(self.view, self.target, self.work.weights[:, : size[0], : size[1]])
            found = {name: operands[name] for name in ("weights_data", "transposed_data")}
            self.weights_of_size[size] = found
        return found


def macro_gradient_launch(view: View, target: Target, work: MacroPass) -> Launch:
    """Without what changes from block to block."""
    block_m, block_n, block_d, warps, stages = macro_gradient_tile(view, target, work.kept is not None)
    bank_stride, row_stride = (0, 0) if work.weights is None else work.weights.stride()[:2]
    return Launch(
        macro_bwd.macro_gradient_kernel,
        (),
        {
            **matrix_arguments(view, target, block_m, block_n, block_d),
            **score_arguments(view),
            "reductions": sloping_lines(view),
            "unit": view.unit,
            "kept": work.kept,
            "weights_block": work.weights,
            "bank_stride": bank_stride,
            "row_stride": row_stride,
            "d_scale": work.d_scale,
            "parts": work.parts,
            "PRECISION": target.input_precision,
            "BLOCK_M": block_m,
            "BLOCK_N": block_n,
            "BLOCK_D": block_d,
        },
        warps,
        stages,
    )


def macro_sums_launch(view: View, work: MacroPass) -> Launch:
    _, m, n, _ = view.sizes
    return Launch(
        macro_bwd.macro_sums_kernel,
        (),
        {"lines": work.lines, "parts": work.parts, "num_rows": m, "num_cols": n, "BLOCK": SUMS_BLOCK},
    )


def macro_product_launch(view: View, target: Target, work: MacroPass) -> Launch:
    assert work.weights is not None
    _, m, n, d = view.sizes
    block_m, block_n, block_k, warps, stages = macro_product_tile(view, target)
    # both roles of a pair in self-similarity are the queries'
    rows, cols = work.queries, work.queries if work.self_similarity else work.keys
    return Launch(
        macro_bwd.macro_product_kernel,
        (),
        {
            **product_operands(view, target, work.weights),
            "d_rows": None if rows is None else rows.sum,
            "d_cols": None if cols is None else cols.sum,
            "num_rows": m,
            "num_cols": n,
            "D": d,
            "BANKS": view.num_banks,
            "PRECISION": target.input_precision,
            "BLOCK_M": block_m,
            "BLOCK_N": block_n,
            "BLOCK_K": block_k,
        },
        warps,
        stages,
    )


def product_operands(view: View, target: Target, weights: Tensor) -> dict[str, Any]:
    """`weights [K, rows, cols]` as they are and transposed, and both sides."""
    block_m, block_n, block_k, *_ = macro_product_tile(view, target)
    rows, cols = sides_by_line(view)
    return embedding_arguments(
        target,
        {
            "weights": (weights, block_m, block_k),
            "transposed": (weights, block_k, block_m),
            "row": (rows, block_k, block_n),
            "col": (cols, block_k, block_n),
        },
    )

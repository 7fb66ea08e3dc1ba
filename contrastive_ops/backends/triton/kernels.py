"""Problems as launches of the Triton kernels: arguments, grid and tile. Nothing is allocated here."""

from __future__ import annotations

from torch import Tensor

from contrastive_ops.backends.gpu.kernels import MAX_STRIPES, MacroPass, MacroTiles, State, Stripes, ceil_div
from contrastive_ops.backends.gpu.view import View
from contrastive_ops.backends.triton.arguments import (
    Target,
    matrix_arguments,
    partials_of,
    reduced_lines,
    score_arguments,
    sloping_lines,
)
from contrastive_ops.backends.triton.launch import Launch
from contrastive_ops.backends.triton.macro_pass import run_macro_pass
from contrastive_ops.backends.triton.tile_choice import (
    gradient_tile,
    macro_gradient_tile,
    macro_product_tile,
    score_tile,
)
from contrastive_ops.backends.triton.tiles import INTERPRETER, INTERPRETER_STRIPES, find_tile
from contrastive_ops.triton_kernels import gradient_bwd, reduce_fwd

MERGE_BLOCK = 256


class TritonKernels:
    """The kernels compiled for one target (`Kernels` in `backends/gpu/kernels.py` says what the methods do)."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.max_stripes = INTERPRETER_STRIPES if target.arch == INTERPRETER else MAX_STRIPES

    def score_tile(self, view: View, self_similarity: bool, keeps: bool) -> tuple[int, int]:
        tile = score_tile(view, self.target, self_similarity, keeps)
        return tile.block_m, tile.block_n

    def owns_rows(self, d: int) -> bool:
        return find_tile("gradient", self.target.arch, self.target.precision, d) is not None

    def keeps_products(self, d: int) -> bool:
        return not self.owns_rows(d)

    def macro_tiles(self, view: View, is_kept: bool) -> MacroTiles:
        scores, products = macro_gradient_tile(view, self.target, is_kept), macro_product_tile(view, self.target)
        return MacroTiles((scores.block_m, scores.block_n), (products.block_m, products.block_n, products.block_d))

    def reduce(
        self,
        view: View,
        stripes: Stripes,
        rows: tuple[State, ...],
        columns: tuple[State, ...],
        kept: Tensor | None,
        self_similarity: bool,
    ) -> None:
        for reduction, states in zip(view.problem.reductions, columns, strict=True):
            # most tiles of others hold no pair, and leave partials of columns as they are
            if not reduction.overwrites:
                for state in states:
                    state.fill_(reduction.neutral)
        reduce_launch(view, self.target, stripes, rows, columns, kept, self_similarity).run()

    def merge(self, view: View, states: tuple[State, ...], results: list[Tensor | None]) -> None:
        merge_launch(view, states, results).run()

    def gradient(self, view: View, d_rows: Tensor | None, d_bias: Tensor | None, d_scale: Tensor | None) -> None:
        gradient_launch(view, self.target, d_rows, d_bias, d_scale).run()

    def macro_pass(self, view: View, work: MacroPass) -> None:
        run_macro_pass(view, self.target, work)


def reduce_launch(
    view: View,
    target: Target,
    stripes: Stripes,
    rows: tuple[State, ...],
    columns: tuple[State, ...],
    kept: Tensor | None,
    self_similarity: bool,
) -> Launch:
    batch, *_, d = view.sizes
    block_m, block_n, block_d, warps, stages = score_tile(view, target, self_similarity, kept is not None)
    return Launch(
        reduce_fwd.reduce_fwd_kernel,
        (stripes.num_row_stripes * stripes.num_col_stripes, batch),
        {
            **matrix_arguments(view, target, block_m, block_n, block_d),
            **score_arguments(view),
            "reductions": reduced_lines(view, rows, columns),
            "kept": kept,
            "row_stripe": stripes.row_stripe,
            "col_stripe": stripes.col_stripe,
            "num_row_stripes": stripes.num_row_stripes,
            "num_col_stripes": stripes.num_col_stripes,
            "SELF": self_similarity,
            "RESIDENT": block_d >= d and view.num_banks == 1,
            "PRECISION": target.input_precision,
            "BLOCK_M": block_m,
            "BLOCK_N": block_n,
            "BLOCK_D": block_d,
        },
        warps,
        stages,
    )


def merge_launch(view: View, states: tuple[State, ...], results: list[Tensor | None]) -> Launch:
    partials = partials_of(view, states, results)
    size = partials[0].result.numel()
    return Launch(
        reduce_fwd.merge_states_kernel,
        (ceil_div(size, MERGE_BLOCK),),
        {
            "partials": partials,
            "size": size,
            "num_slots": partials[0].states[0].shape[0],
            "BLOCK": MERGE_BLOCK,
        },
    )


def gradient_launch(
    view: View, target: Target, d_rows: Tensor | None, d_bias: Tensor | None, d_scale: Tensor | None
) -> Launch:
    batch, rows, _, d = view.sizes
    block_m, block_n, block_d, warps, stages = gradient_tile(view, target)
    return Launch(
        gradient_bwd.gradient_bwd_kernel,
        (ceil_div(rows, block_m), batch),
        {
            **matrix_arguments(view, target, block_m, block_n, block_d),
            "reductions": sloping_lines(view),
            "unit": view.unit,
            "d_rows": d_rows,
            "d_bias": d_bias,
            "d_scale": d_scale,
            "RESIDENT": block_d >= d,
            "PRECISION": target.input_precision,
            "BLOCK_M": block_m,
            "BLOCK_N": block_n,
            "BLOCK_D": block_d,
        },
        warps,
        stages,
    )

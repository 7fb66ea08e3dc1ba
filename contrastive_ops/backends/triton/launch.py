"""Problems as launches of the Triton kernels: arguments, grid and tile. Nothing runs and nothing is allocated here."""

from __future__ import annotations

from typing import Any, NamedTuple

import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from contrastive_ops.backends.gpu.block_by_block import run_block_by_block
from contrastive_ops.backends.gpu.kernels import MAX_STRIPES, MacroBlock, MacroPass, Partials, Stripes, ceil_div
from contrastive_ops.backends.gpu.view import View
from contrastive_ops.backends.triton.tiles import (
    INTERPRETER,
    INTERPRETER_STRIPES,
    KEPT_GRADIENT,
    Tile,
    find_tile,
    has_descriptors,
)
from contrastive_ops.relations import Clause
from contrastive_ops.scores import ScoreKind
from contrastive_ops.triton_kernels import gradient_bwd, macro_bwd, relation, score, statistics_fwd
from contrastive_ops.triton_kernels.tile import Strides

MERGE_BLOCK = 256


class Target(NamedTuple):
    """What the kernels are compiled for."""

    arch: str
    precision: str  # in the tile table: half, tf32, fp32 or fp64
    input_precision: str  # of tl.dot


class Launch(NamedTuple):
    """One kernel with everything that it is called with."""

    kernel: Any
    grid: tuple[int, ...]
    arguments: dict[str, Any]
    warps: int = 4
    stages: int = 1

    @property
    def options(self) -> dict[str, Any]:
        """Of the compiler. Triton 3.9 asks for a word on fused multiply-adds, whose default is about to change."""
        return {"num_warps": self.warps, "num_stages": self.stages, "enable_fp_fusion": True}

    def run(self) -> None:
        self.kernel[self.grid](**self.arguments, **self.options)


class TritonKernels:
    """The kernels compiled for one target (`Kernels` in `backends/gpu/kernels.py` says what the methods do)."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.max_stripes = INTERPRETER_STRIPES if target.arch == INTERPRETER else MAX_STRIPES

    def score_tile(self, view: View, self_similarity: bool, keeps: bool) -> tuple[int, int]:
        tile = _score_tile(view, self.target, self_similarity, keeps)
        return tile.block_m, tile.block_n

    def owns_rows(self, d: int) -> bool:
        return find_tile("gradient", self.target.arch, self.target.precision, d) is not None

    def keeps_products(self, d: int) -> bool:
        return not self.owns_rows(d)

    def macro_grid(self, view: View, rows: int, cols: int, is_kept: bool) -> tuple[int, int]:
        tile = _macro_tile(view, self.target, is_kept)
        return ceil_div(rows, tile.block_m), ceil_div(cols, tile.block_n)

    def statistics(
        self,
        view: View,
        stripes: Stripes,
        rows: Partials,
        columns: Partials,
        kept: Tensor | None,
        self_similarity: bool,
    ) -> None:
        for side in (rows, columns):
            if side.positive is not None:
                side.positive.zero_()  # most tiles add nothing
        statistics_launch(view, self.target, stripes, rows, columns, kept, self_similarity).run()

    def merge(self, partials: Partials, lse: Tensor, positive_sum: Tensor | None) -> None:
        merge_launch(partials, lse, positive_sum).run()

    def gradient(self, view: View, d_rows: Tensor | None, d_bias: Tensor | None, d_scale: Tensor | None) -> None:
        gradient_launch(view, self.target, d_rows, d_bias, d_scale).run()

    def macro_pass(self, view: View, work: MacroPass) -> None:
        run_block_by_block(self, view, work)

    def macro_gradient(self, view: View, block: MacroBlock) -> None:
        macro_gradient_launch(view, self.target, block).run()

    def macro_product(self, weights: Tensor, other: Tensor, gradient: Tensor, transposed: bool) -> None:
        macro_product_launch(self.target, weights, other, gradient, transposed).run()


def statistics_launch(
    view: View,
    target: Target,
    stripes: Stripes,
    rows: Partials,
    columns: Partials,
    kept: Tensor | None,
    self_similarity: bool,
) -> Launch:
    batch, *_, d = view.sizes
    block_m, block_n, block_d, warps, stages = _score_tile(view, target, self_similarity, kept is not None)
    return Launch(
        statistics_fwd.statistics_fwd_kernel,
        (stripes.num_row_stripes * stripes.num_col_stripes, batch),
        {
            **_matrix(view, target, block_m, block_n, block_d),
            **_score(view),
            "row_partials": rows,
            "col_partials": columns,
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


def merge_launch(partials: Partials, lse: Tensor, positive_sum: Tensor | None) -> Launch:
    assert partials.top is not None
    return Launch(
        statistics_fwd.merge_partials_kernel,
        (ceil_div(lse.numel(), MERGE_BLOCK),),
        {
            "partials": partials,
            "lse": lse,
            "positive_sum": positive_sum,
            "size": lse.numel(),
            "num_slots": partials.top.shape[0],
            "BLOCK": MERGE_BLOCK,
        },
    )


def gradient_launch(
    view: View, target: Target, d_rows: Tensor | None, d_bias: Tensor | None, d_scale: Tensor | None
) -> Launch:
    batch, rows, _, d = view.sizes
    tile = find_tile("gradient", target.arch, target.precision, d)
    if tile is None:
        assert d_rows is None
        tile = find_tile("macro_gradient", target.arch, target.precision, d)
        assert tile is not None
    block_m, block_n, block_d, warps, stages = tile
    return Launch(
        gradient_bwd.gradient_bwd_kernel,
        (ceil_div(rows, block_m), batch),
        {
            **_matrix(view, target, block_m, block_n, block_d),
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


def _score_tile(view: View, target: Target, self_similarity: bool, keeps: bool) -> Tile:
    key = (target.arch, target.precision, view.sizes[3], view.num_banks)
    tile = (find_tile("kept_statistics", *key) if keeps else None) or find_tile(_of_score(view, "statistics"), *key)
    assert tile is not None
    if not self_similarity:
        return tile
    side = min(tile.block_m, tile.block_n)  # square tiles: the diagonal then runs through corners
    return tile._replace(block_m=side, block_n=side)


def _macro_tile(view: View, target: Target, is_kept: bool) -> Tile:
    key = (target.arch, target.precision, view.sizes[3], view.num_banks)
    tile = KEPT_GRADIENT if is_kept else find_tile(_of_score(view, "macro_gradient"), *key)
    assert tile is not None
    return tile


def _of_score(view: View, kernel: str) -> str:
    """The kernel in the table: its tiles depend on the score."""
    return kernel if view.score.kind is ScoreKind.DOT else f"volume_{kernel}"


def macro_gradient_launch(view: View, target: Target, block: MacroBlock) -> Launch:
    block_m, block_n, block_d, warps, stages = _macro_tile(view, target, block.kept is not None)
    block_rows, block_cols = (part.stop - part.start for part in (block.rows, block.cols))
    bank_stride, row_stride = (0, 0) if block.weights is None else block.weights.stride()[:2]
    return Launch(
        macro_bwd.macro_gradient_kernel,
        (ceil_div(block_rows, block_m), ceil_div(block_cols, block_n)),
        {
            **_matrix(view, target, block_m, block_n, block_d),
            **_score(view),
            "unit": view.unit,
            "kept": block.kept,
            "weights_block": block.weights,
            "bank_stride": bank_stride,
            "row_stride": row_stride,
            "d_scale": block.d_scale,
            "d_scale_weight": block.d_scale_weight,
            "sums": block.sums,
            "first_row": block.rows.start,
            "first_col": block.cols.start,
            "block_rows": block_rows,
            "block_cols": block_cols,
            "PRECISION": target.input_precision,
            "BLOCK_M": block_m,
            "BLOCK_N": block_n,
            "BLOCK_D": block_d,
        },
        warps,
        stages,
    )


def macro_product_launch(target: Target, weights: Tensor, other: Tensor, gradient: Tensor, transposed: bool) -> Launch:
    depth, d = other.shape
    tile = find_tile("macro_product", target.arch, target.precision, d)
    assert tile is not None
    block_m, block_n, block_k, warps, stages = tile
    block = (block_k, block_m) if transposed else (block_m, block_k)
    return Launch(
        macro_bwd.macro_product_kernel,
        (ceil_div(gradient.shape[0], block_m), ceil_div(d, block_n)),
        {
            **_embeddings(
                target,
                {"weights": (weights.unsqueeze(0), *block), "other": (other.unsqueeze(0), block_k, block_n)},
            ),
            "gradient": gradient,
            "size": gradient.shape[0],
            "depth": depth,
            "D": d,
            "TRANSPOSED": transposed,
            "PRECISION": target.input_precision,
            "BLOCK_M": block_m,
            "BLOCK_N": block_n,
            "BLOCK_K": block_k,
        },
        warps,
        stages,
    )


def _matrix(view: View, target: Target, block_m: int, block_n: int, block_d: int) -> dict[str, Any]:
    """The arguments that describe the score matrix, the same for every kernel."""
    _, m, n, d = view.sizes
    columns = view.cols.embeddings.transpose(1, 2) if view.num_banks > 1 else view.cols.banks[0]
    sides = {
        "row": (view.rows.embeddings, block_m, block_d),
        "col": (columns, block_n, block_d),
    }
    return {
        **_embeddings(target, sides),
        "scale": view.scale,
        "row_lines": view.rows.lines,
        "col_lines": view.cols.lines,
        "candidates": tuple(map(_clause, view.candidates)),
        "positives": tuple(map(_clause, view.positives)),
        "num_rows": m,
        "num_cols": n,
        "D": d,
    }


def _score(view: View) -> dict[str, Any]:
    """What is made of the products with the columns' banks, for the kernels of any score."""
    kind, row_term, col_term, mixing, absolute = view.score
    constants = tl.constexpr(int(kind)), tl.constexpr(absolute)
    return {
        "score": score.Score(constants[0], row_term, col_term, mixing, constants[1]),
        "BANKS": view.num_banks,
    }


def _embeddings(target: Target, sides: dict[str, tuple[Tensor, int, int]]) -> dict[str, Any]:
    """`<name>_data` and `<name>_strides` of sides `[B, size, D]` or `[B, size, K, D]`, each with the lines and columns
    of its tile: descriptors where the copy engine can read all of them, else pointers."""
    use_descriptors = has_descriptors(target.arch, target.precision) and all(
        _is_aligned(x) for x, _, _ in sides.values()
    )
    arguments: dict[str, Any] = {}
    for name, (side, block, block_d) in sides.items():
        batch, row, bank = _strides(side)
        if use_descriptors:
            # no stride may be 0, also where there is but one entry
            batch = batch or side.shape[1] * row
            bank_strides, banks = ([bank], [1]) if side.dim() == 4 else ([], [])
            strides, tile = [batch, row, *bank_strides, 1], [1, block, *banks, block_d]
            arguments[f"{name}_data"] = TensorDescriptor(side, list(side.shape), strides, tile)
            arguments[f"{name}_strides"] = ()
        else:
            arguments[f"{name}_data"] = side
            arguments[f"{name}_strides"] = Strides(batch, row, bank)
    return arguments


def _strides(side: Tensor) -> Strides:
    """What a single batch entry does not use must not decide how loads are compiled."""
    return Strides(side.stride(0) if side.shape[0] > 1 else 0, side.stride(1), side.stride(2) if side.dim() == 4 else 0)


def _is_aligned(side: Tensor) -> bool:
    """Whether the copy engine can read it: address and strides are multiples of 16 bytes, nothing is used twice."""
    batch, row, bank = _strides(side)
    is_shared = row < side.shape[-1] or (batch == 0 and side.shape[0] > 1)
    return not is_shared and all(
        number % 16 == 0 for number in (side.data_ptr(), *(x * side.itemsize for x in (batch, row, bank)))
    )


def _clause(clause: Clause) -> relation.DiagonalClause | relation.IdsClause:
    kind = tl.constexpr(int(clause.kind))
    if clause.row_ids is None or clause.col_ids is None:
        return relation.DiagonalClause(kind, clause.offset)
    strides = [ids.shape[1] if ids.shape[0] > 1 else 0 for ids in (clause.row_ids, clause.col_ids)]
    return relation.IdsClause(kind, clause.row_ids, clause.col_ids, *strides)

"""Problems as launches of the Triton kernels: arguments, grid and tile. Nothing runs and nothing is allocated here."""

from __future__ import annotations

from typing import Any, NamedTuple

import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from contrastive_ops.backends.triton.tiles import Tile, find_tile, has_descriptors, max_stripes
from contrastive_ops.problem import Problem
from contrastive_ops.relations import Clause, ClauseKind, Relation
from contrastive_ops.triton_kernels import gradient_bwd, macro_bwd, relation, statistics_fwd
from contrastive_ops.triton_kernels.statistics_fwd import Partials
from contrastive_ops.triton_kernels.tile import Embeddings, Lines

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

    def run(self) -> None:
        self.kernel[self.grid](**self.arguments, num_warps=self.warps, num_stages=self.stages)


class Stripes(NamedTuple):
    """How the score pass cuts the matrix: a program takes one stripe of rows times one of columns."""

    tile: Tile
    row_stripe: int
    col_stripe: int
    num_row_stripes: int
    num_col_stripes: int


class Side(NamedTuple):
    """One side of the score matrix."""

    embeddings: Tensor  # [B, size, D], unit stride in D
    lines: Lines  # vectors [B, size]


class View(NamedTuple):
    """A problem from the point of view of one side, which owns the rows."""

    rows: Side
    cols: Side
    candidates: tuple[relation.Clause, ...]
    positives: tuple[relation.Clause, ...]
    scale: Tensor
    unit: Tensor | None

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """B, rows, columns, D."""
        batch, rows, d = self.rows.embeddings.shape
        return batch, rows, self.cols.embeddings.shape[1], d

    def at(self, b: int) -> View:
        """One entry of the batch."""
        if self.sizes[0] == 1:
            return self

        def side(all_sides: Side) -> Side:
            lines = Lines(*(None if line is None else line[b : b + 1] for line in all_sides.lines))
            return Side(all_sides.embeddings[b : b + 1], lines)

        def clauses(relation_clauses: tuple[relation.Clause, ...]) -> tuple[relation.Clause, ...]:
            return tuple(
                c if c.row_ids is None else c._replace(row_ids=_entry(c.row_ids, b), col_ids=_entry(c.col_ids, b))
                for c in relation_clauses
            )

        return View(
            side(self.rows), side(self.cols), clauses(self.candidates), clauses(self.positives), self.scale, self.unit
        )


def view_rows(problem: Problem, row_lines: Lines, col_lines: Lines, unit: Tensor | None = None) -> View:
    """Queries own the rows."""
    _, m, n, _ = problem.sizes
    return View(
        Side(problem.queries, row_lines),
        Side(problem.keys, col_lines),
        _clauses(problem.candidates, m, n),
        _clauses(problem.positives, m, n),
        problem.scale,
        unit,
    )


def view_columns(problem: Problem, row_lines: Lines, col_lines: Lines, unit: Tensor | None = None) -> View:
    """The transposed matrix: keys own the rows."""
    _, m, n, _ = problem.sizes
    return View(
        Side(problem.keys, col_lines),
        Side(problem.queries, row_lines),
        _clauses(problem.candidates, m, n, transposed=True),
        _clauses(problem.positives, m, n, transposed=True),
        problem.scale,
        unit,
    )


def plan_stripes(view: View, target: Target, self_similarity: bool) -> Stripes:
    _, m, n, d = view.sizes
    tile = find_tile("statistics", target.arch, target.precision, d)
    assert tile is not None
    if self_similarity:  # square tiles: the diagonal then runs through corners
        side = min(tile.block_m, tile.block_n)
        tile = tile._replace(block_m=side, block_n=side)
    most = max_stripes(target.arch)
    row_stripe = _ceil_div(_ceil_div(m, tile.block_m), most) * tile.block_m
    col_stripe = _ceil_div(_ceil_div(n, tile.block_n), most) * tile.block_n
    return Stripes(tile, row_stripe, col_stripe, _ceil_div(m, row_stripe), _ceil_div(n, col_stripe))


def statistics_launch(
    view: View, target: Target, stripes: Stripes, rows: Partials, columns: Partials, self_similarity: bool
) -> Launch:
    """The score pass. `rows` has a slot for every stripe of columns, `columns` one for every stripe of rows; in
    self-similarity both are one, with a slot more."""
    batch, *_, d = view.sizes
    block_m, block_n, block_d, warps, stages = stripes.tile
    return Launch(
        statistics_fwd.statistics_fwd_kernel,
        (stripes.num_row_stripes * stripes.num_col_stripes, batch),
        {
            **_matrix(view, target, block_m, block_n, block_d),
            "row_partials": rows,
            "col_partials": columns,
            "row_stripe": stripes.row_stripe,
            "col_stripe": stripes.col_stripe,
            "num_row_stripes": stripes.num_row_stripes,
            "num_col_stripes": stripes.num_col_stripes,
            "SELF": self_similarity,
            "RESIDENT": block_d >= d,
            "PRECISION": target.input_precision,
            "BLOCK_M": block_m,
            "BLOCK_N": block_n,
            "BLOCK_D": block_d,
        },
        warps,
        stages,
    )


def merge_launch(partials: Partials, lse: Tensor, positive_sum: Tensor | None) -> Launch:
    """Partials `[slots, B, size]` to `lse [B, size]`."""
    return Launch(
        statistics_fwd.merge_partials_kernel,
        (_ceil_div(lse.numel(), MERGE_BLOCK),),
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
    """The gradient of the rows' side in one kernel; with `d_rows`, D must be one that `owns_rows` accepts."""
    batch, rows, _, d = view.sizes
    tile = find_tile("gradient", target.arch, target.precision, d)
    if tile is None:
        assert d_rows is None
        tile = find_tile("macro_gradient", target.arch, target.precision, d)
        assert tile is not None
    block_m, block_n, block_d, warps, stages = tile
    return Launch(
        gradient_bwd.gradient_bwd_kernel,
        (_ceil_div(rows, block_m), batch),
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


def owns_rows(target: Target, d: int) -> bool:
    """Whether one kernel can hold the gradient of a tile of rows for this D; else it takes two levels."""
    return find_tile("gradient", target.arch, target.precision, d) is not None


def macro_gradient_grid(target: Target, d: int, rows: int, cols: int) -> tuple[int, int]:
    tile = find_tile("macro_gradient", target.arch, target.precision, d)
    assert tile is not None
    return _ceil_div(rows, tile.block_m), _ceil_div(cols, tile.block_n)


def macro_gradient_launch(
    view: View, target: Target, rows: slice, cols: slice, ds: Tensor, d_scale: Tensor | None, d_scale_weight: float
) -> Launch:
    """dS of the pairs `rows` x `cols` of a single batch entry into `ds`, with partial sums for d_scale."""
    *_, d = view.sizes
    tile = find_tile("macro_gradient", target.arch, target.precision, d)
    assert tile is not None
    block_m, block_n, block_d, warps, stages = tile
    block_rows, block_cols = rows.stop - rows.start, cols.stop - cols.start
    return Launch(
        macro_bwd.macro_gradient_kernel,
        macro_gradient_grid(target, d, block_rows, block_cols),
        {
            **_matrix(view, target, block_m, block_n, block_d),
            "unit": view.unit,
            "ds_block": ds,
            "ds_stride": ds.stride(0),
            "d_scale": d_scale,
            "d_scale_weight": d_scale_weight,
            "first_row": rows.start,
            "first_col": cols.start,
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


def macro_product_launch(target: Target, ds: Tensor, other: Tensor, gradient: Tensor, transposed: bool) -> Launch:
    """gradient `[lines, D]` += dS other, or dS^T other, with `other [depth, D]` and dS a view of its workspace."""
    depth, d = other.shape
    tile = find_tile("macro_product", target.arch, target.precision, d)
    assert tile is not None
    block_m, block_n, block_k, warps, stages = tile
    block = (block_k, block_m) if transposed else (block_m, block_k)
    return Launch(
        macro_bwd.macro_product_kernel,
        (_ceil_div(gradient.shape[0], block_m), _ceil_div(d, block_n)),
        {
            "weights": _embeddings(ds.unsqueeze(0), target, *block),
            "other": _embeddings(other.unsqueeze(0), target, block_k, block_n),
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
    return {
        "row_side": _embeddings(view.rows.embeddings, target, block_m, block_d),
        "col_side": _embeddings(view.cols.embeddings, target, block_n, block_d),
        "scale": view.scale,
        "row_lines": view.rows.lines,
        "col_lines": view.cols.lines,
        "candidates": view.candidates,
        "positives": view.positives,
        "num_rows": m,
        "num_cols": n,
        "D": d,
    }


def _embeddings(side: Tensor, target: Target, block: int, block_d: int) -> Embeddings:
    """`[B, size, D]`; what a single batch entry does not use must not decide how loads are compiled."""
    batch_stride = side.stride(0) if side.shape[0] > 1 else 0
    if has_descriptors(target.arch, target.precision) and _is_aligned(side, batch_stride):
        # no stride may be 0, also where there is but one entry
        strides = [batch_stride or side.shape[1] * side.stride(1), side.stride(1), 1]
        return Embeddings(TensorDescriptor(side, list(side.shape), strides, [1, block, block_d]), None, None)
    return Embeddings(side, batch_stride, side.stride(1))


def _is_aligned(side: Tensor, batch_stride: int) -> bool:
    """Whether the copy engine can read it: address and strides are multiples of 16 bytes, no line is used twice."""
    bytes_apart = (side.data_ptr(), side.stride(1) * side.itemsize, batch_stride * side.itemsize)
    return side.stride(1) >= side.shape[2] and all(number % 16 == 0 for number in bytes_apart)


def _clauses(
    relation_or_none: Relation | None, m: int, n: int, transposed: bool = False
) -> tuple[relation.Clause, ...]:
    clauses = () if relation_or_none is None else relation_or_none.clauses
    return tuple(_clause(clause, m, n, transposed) for clause in clauses)


def _clause(clause: Clause, m: int, n: int, transposed: bool) -> relation.Clause:
    # a diagonal outside the matrix stays outside, and 32 bits hold it
    offset = max(-m, min(n, clause.offset))
    first, second = clause.row_ids, clause.col_ids
    if transposed:
        offset, first, second = -offset, second, first
    kind = tl.constexpr(int(clause.kind))
    if clause.kind in (ClauseKind.DIAGONAL, ClauseKind.OFF_DIAGONAL):
        return relation.Clause(kind, offset, None, None, None, None)
    assert first is not None and second is not None
    first, second = first.contiguous(), second.contiguous()
    strides = [ids.shape[1] if ids.shape[0] > 1 else 0 for ids in (first, second)]
    return relation.Clause(kind, None, first, second, *strides)


def _entry(ids: Tensor, b: int) -> Tensor:
    return ids[b : b + 1] if ids.shape[0] > 1 else ids


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)

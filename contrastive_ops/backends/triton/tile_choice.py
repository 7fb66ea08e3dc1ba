"""The tile of each kernel for a score matrix."""

from __future__ import annotations

from contrastive_ops.backends.gpu.view import View
from contrastive_ops.backends.triton.arguments import Target
from contrastive_ops.backends.triton.tiles import KEPT_GRADIENT, TABLE, Tile, find_tile

NARROWEST = 16  # columns that tensor cores multiply


def score_tile(view: View, target: Target, self_similarity: bool, keeps: bool) -> Tile:
    kept = _find("kept_reduce", view, target) if keeps else None
    tile = kept or _reducing_tile(_of_score(view, "reduce"), view, target)
    assert tile is not None
    if not self_similarity:
        return tile
    side = min(tile.block_m, tile.block_n)  # square tiles: the diagonal then runs through corners
    return tile._replace(block_m=side, block_n=side)


def gradient_tile(view: View, target: Target) -> Tile:
    """Beyond its table, where no gradient of embeddings is asked for, that of a macro-block."""
    return _sloping_tile("gradient", view, target) or macro_gradient_tile(view, target, False)


def macro_gradient_tile(view: View, target: Target, is_kept: bool) -> Tile:
    tile = KEPT_GRADIENT if is_kept else _sloping_tile(_of_score(view, "macro_gradient"), view, target)
    assert tile is not None
    return tile


def macro_product_tile(view: View, target: Target) -> Tile:
    tile = find_tile("macro_product", target.arch, target.precision, view.sizes[3])
    assert tile is not None
    return tile


def _reducing_tile(kernel: str, view: View, target: Target) -> Tile | None:
    """Rows of the table are those of sums and of one slope that has a result. Reductions without a slope, whose scores
    are compared from one pass to another, have one tile in whichever company."""
    reductions = view.problem.reductions
    is_usual = all(r.has_slope for r in reductions) and sum(r.slope_has_result for r in reductions) <= 1
    return (None if is_usual else _several(kernel, view, target)) or _find(kernel, view, target)


def _sloping_tile(kernel: str, view: View, target: Target) -> Tile | None:
    """Rows of the table are those of one reduction whose slope is one of its results: the lines of further ones take
    the registers of half of the columns."""
    tile = _find(kernel, view, target)
    results = max(sum(values.result is not None for values in side) for side in (view.rows, view.cols))
    if tile is None or results <= 1:
        return tile
    return _several(kernel, view, target) or tile._replace(block_n=max(tile.block_n // 2, NARROWEST))


def _several(kernel: str, view: View, target: Target) -> Tile | None:
    several = f"several_{kernel}"
    return _find(several, view, target) if several in TABLE else None


def _find(kernel: str, view: View, target: Target) -> Tile | None:
    return find_tile(kernel, target.arch, target.precision, view.sizes[3], view.num_banks)


def _of_score(view: View, kernel: str) -> str:
    """The kernel in the table: its tiles depend on the score."""
    return view.problem.score.tile_family + kernel

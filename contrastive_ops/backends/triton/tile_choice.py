"""The tile of each kernel for a score matrix."""

from __future__ import annotations

from contrastive_ops.backends.gpu.view import View
from contrastive_ops.backends.triton.arguments import Target
from contrastive_ops.backends.triton.tiles import KEPT_GRADIENT, Tile, find_tile


def score_tile(view: View, target: Target, self_similarity: bool, keeps: bool) -> Tile:
    kept = _find("kept_reduce", view, target) if keeps else None
    tile = kept or _find(_of_score(view, "reduce"), view, target)
    assert tile is not None
    if not self_similarity:
        return tile
    side = min(tile.block_m, tile.block_n)  # square tiles: the diagonal then runs through corners
    return tile._replace(block_m=side, block_n=side)


def macro_gradient_tile(view: View, target: Target, is_kept: bool) -> Tile:
    tile = KEPT_GRADIENT if is_kept else _find(_of_score(view, "macro_gradient"), view, target)
    assert tile is not None
    return tile


def macro_product_tile(view: View, target: Target) -> Tile:
    tile = find_tile("macro_product", target.arch, target.precision, view.sizes[3])
    assert tile is not None
    return tile


def _find(kernel: str, view: View, target: Target) -> Tile | None:
    return find_tile(kernel, target.arch, target.precision, view.sizes[3], view.num_banks)


def _of_score(view: View, kernel: str) -> str:
    """The kernel in the table: its tiles depend on the score."""
    return view.problem.score.tile_family + kernel

"""How the score matrix is cut: independent of the thread count, so that results are too."""

from __future__ import annotations

from typing import NamedTuple

import torch

from contrastive_ops.problem import Problem
from contrastive_ops.reductions import Reduction
from contrastive_ops.scores import ScoreKind

MICRO_ROWS = 12  # of the largest micro-kernel
MAX_GROUPS = 8  # concurrency of the schedule; more costs locality
SMALLEST_BLOCK, LARGEST_BLOCK = 96, 256  # of all tilings; columns of a volume score may be fewer
VOLUME_TILES_BYTES = 400 * 1024  # of the second-level cache: K tiles of products and one of scores
FEW_ROWS = 1024  # at most so many, against many columns, share every tile of keys (`csrc/cpu/walk.h`)
KEYS_TILE_BYTES = 256 * 1024  # of the second-level cache: keys that such a tile packs for itself


class Shape(NamedTuple):
    """What tiling and memory depend on. Sizes may be symbolic while a graph is traced."""

    batch: int
    m: int
    n: int
    d: int
    score: ScoreKind
    banks: int  # keys of one column
    dtype: torch.dtype
    statistics_dtype: torch.dtype
    self_similarity: bool
    workspace_bytes: int
    kinds: tuple[type[Reduction], ...]
    directions: tuple[tuple[bool, bool], ...]  # rows, columns of each that the kernels reduce
    all_rows: int  # of the problem that these rows are a panel of
    panel_rows: int  # of the largest of its panels: they are all walked in one way
    shares_keys: bool = False  # one packed copy serves all panels

    @classmethod
    def of(cls, problem: Problem) -> Shape:
        is_self = problem.self_similarity
        return cls(
            *problem.sizes,
            problem.score.kind,
            len(problem.pairs),
            problem.dtype,
            problem.scale.dtype,
            is_self,
            problem.workspace_bytes,
            tuple([type(r) for r in problem.reductions]),
            # self-similarity needs one direction only: the other is the same
            tuple([(True, False) if is_self else (r.rows, r.columns) for r in problem.reductions]),
            problem.sizes[1],
            problem.sizes[1],
        )

    @property
    def has_slope(self) -> bool:
        return any(kind.has_slope for kind in self.kinds)

    @property
    def changing(self) -> int:
        """How many reductions work on scores that they have changed (`csrc/cpu/reduction/traits.h`)."""
        return sum(kind.overwrites for kind in self.kinds)


class Tiling(NamedTuple):
    block_m: int
    block_n: int
    row_tiles: int
    col_tiles: int
    tiles: int  # all of them, or the upper triangle in self-similarity
    stripes: int  # of columns, in the place of groups; 0: none

    @property
    def groups(self) -> int:
        return min(MAX_GROUPS, self.row_tiles, self.col_tiles)


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def tiling_of(shape: Shape) -> Tiling:
    """Tiles that fit the second-level cache beside their operands, fewer rows where the matrix is small.

    Numbers and measurements: docs/cpu_kernels.md.
    """
    m, n = shape.m, shape.n
    has_few_rows = not shape.self_similarity and has_few(shape.panel_rows, n)
    is_large = shape.all_rows > 512  # all panels have the same tiles of keys
    if shape.self_similarity:
        block_m, block_n = (192, 192) if is_large else (96, 96)
    elif has_few_rows:
        column_bytes = shape.banks * shape.d * shape.statistics_dtype.itemsize
        block_m = m if m <= LARGEST_BLOCK else even_rows(shape)
        block_n = max(SMALLEST_BLOCK, min(LARGEST_BLOCK, KEYS_TILE_BYTES // column_bytes // 32 * 32))
    else:
        block_m, block_n = (even_rows(shape), 256) if is_large else (128, 128)
    if shape.score is ScoreKind.VOLUME:
        block_n = min(block_n, volume_columns(shape))
    row_tiles, col_tiles = ceil_div(m, block_m), ceil_div(n, block_n)
    tiles = row_tiles * (row_tiles + 1) // 2 if shape.self_similarity else row_tiles * col_tiles
    return Tiling(block_m, block_n, row_tiles, col_tiles, tiles, min(MAX_GROUPS, col_tiles) if has_few_rows else 0)


def even_rows(shape: Shape) -> int:
    """Rows of a tile, in nearly equal tiles: at most 192, and 256 where a tile of float32 scores is no larger than a
    tile of keys and there are as many groups of rows as of columns all the same."""
    as_many = ceil_div(shape.m, 256) >= min(MAX_GROUPS, ceil_div(shape.n, 256))
    is_dot = shape.score is ScoreKind.DOT and shape.statistics_dtype == torch.float32
    tiles = max(1, ceil_div(shape.m, 256 if as_many and is_dot else 192))
    return max(SMALLEST_BLOCK, ceil_div(shape.m, tiles * MICRO_ROWS) * MICRO_ROWS)


def has_few(lines: int, others: int) -> bool:
    """Whether a side has so few lines, beside so many others, that operands and gradients of the others are better read
    and written once for all of the few, by stripes of the others with sums of the few of their own."""
    return 0 < lines <= FEW_ROWS and others >= max(4 * lines, lines * lines // 32)


def volume_columns(shape: Shape) -> int:
    """The most columns of a volume score's tile, a multiple of every panel."""
    column_bytes = (shape.banks + 1) * 192 * shape.statistics_dtype.itemsize
    return max(32, VOLUME_TILES_BYTES // column_bytes // 32 * 32)

"""How large the blocks of a gradient pass in two levels are: such that their launches fill the multiprocessors."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from contrastive_ops.backends.gpu.gpu_size import GpuSize
from contrastive_ops.backends.gpu.kernels import MacroTiles, ceil_div
from contrastive_ops.backends.gpu.waves import finish_time

LONGEST = 96  # tiles along a side: longer blocks are hardly fuller, and leave few tiles for the other side
COMPARED = 12  # sizes that fill the GPU best by themselves, of which the best for the whole matrix is taken
# multiply-adds of a multiprocessor in the microsecond in which a launch starts and drains: assumed
LAUNCH_LENGTH = 1 << 22


class MacroBlocks(NamedTuple):
    """What the launches of a block depend on, beside its size."""

    d: int
    banks: int
    itemsize: int  # of a weight
    self_similarity: bool
    of_queries: bool  # whether their gradient is wanted
    of_keys: bool
    tiles: MacroTiles
    gpu: GpuSize

    @property
    def steps(self) -> tuple[int, int]:
        """Rows and columns that every block is a multiple of: whole tiles of both launches, which are powers of two."""
        depth = max(self.tiles.products[::2])
        down, across = (max(side, depth) for side in self.tiles.scores)
        return (max(down, across),) * 2 if self.self_similarity else (down, across)


def block_size(blocks: MacroBlocks, rows: int, cols: int) -> tuple[int, int]:
    """Height and width of the blocks of a matrix: one size, but for the last ones. Squares in self-similarity."""
    down, across = blocks.steps
    # not of the exact size: a batch that varies a little has one plan
    return _best_size(blocks, ceil_div(rows, down), ceil_div(cols, across))


@lru_cache(maxsize=1024)
def _best_size(blocks: MacroBlocks, tall: int, wide: int) -> tuple[int, int]:
    down, across = blocks.steps
    most = max(1, blocks.gpu.macro_bytes // (blocks.banks * blocks.itemsize * down * across))
    # alike for all large matrices
    sizes = _fullest_sizes(blocks, min(tall, max(LONGEST, most // wide)), min(wide, max(LONGEST, most // tall)), most)
    return min(sizes, key=lambda size: pass_time(blocks, tall * down, wide * across, *size))


@lru_cache(maxsize=256)
def _fullest_sizes(blocks: MacroBlocks, tallest: int, widest: int, most: int) -> list[tuple[int, int]]:
    """Of the sizes that the memory allows, of at most so many tiles, those that take the least time for a pair."""
    down, across = blocks.steps
    if blocks.self_similarity:
        return [(side * down, side * across) for side in range(1, tallest + 1) if side == 1 or side * side <= most]
    sizes = [
        (height * down, width * across)
        for height in range(1, min(tallest, most) + 1)
        for width in _widths(min(widest, most // height))
    ]
    return sorted(sizes, key=lambda size: _launches_time(blocks, *size) / (size[0] * size[1]))[:COMPARED]


def _widths(widest: int) -> range:
    """As wide as the memory allows, or somewhat less."""
    return range(max(1, widest * 5 // 8), widest + 1)


def pass_time(blocks: MacroBlocks, rows: int, cols: int, height: int, width: int) -> int:
    """Of all blocks, in multiply-adds of one multiprocessor."""
    if blocks.self_similarity:
        return sum(
            count * _launches_time(blocks, down, across, rows_differ)
            for down, across, rows_differ, count in _squares(rows, height)
        )
    return sum(
        count * times * _launches_time(blocks, part, other)
        for part, count in _parts(rows, height)
        for other, times in _parts(cols, width)
    )


def fullness(blocks: MacroBlocks, height: int, width: int) -> float:
    """Of a block's launches together: the share of their time in which multiprocessors have a program."""
    launches = _launches(blocks, height, width)
    work = sum(count * length for programs in launches for count, length in programs)
    multiprocessors = blocks.gpu.multiprocessors
    return work / sum(finish_time(multiprocessors, programs) for programs in launches) / multiprocessors


def _launches_time(blocks: MacroBlocks, rows: int, cols: int, rows_differ: bool = True) -> int:
    launches = _launches(blocks, rows, cols, rows_differ)
    return sum(LAUNCH_LENGTH + finish_time(blocks.gpu.multiprocessors, programs) for programs in launches)


def _launches(blocks: MacroBlocks, rows: int, cols: int, rows_differ: bool = True) -> list[list[tuple[int, int]]]:
    """The programs of each launch of a block: how many, and the multiply-adds of one. In self-similarity both gradients
    are the queries', and of a block on the diagonal there is one."""
    (down, across), (lines, columns, _) = blocks.tiles
    scores = (ceil_div(rows, down) * ceil_div(cols, across), down * across * blocks.d * blocks.banks)
    slices = ceil_div(blocks.d, columns)
    products = []
    if blocks.of_queries:
        products.append((ceil_div(rows, lines) * slices, lines * columns * cols * blocks.banks))
    if rows_differ if blocks.self_similarity else blocks.of_keys:
        products.append((blocks.banks * ceil_div(cols, lines) * slices, lines * columns * rows))
    return [[scores], products] if products else [[scores]]


def _parts(size: int, part: int) -> Iterator[tuple[int, int]]:
    """Sizes of the parts of a side, and how many there are of each."""
    whole, rest = divmod(size, part)
    if whole:
        yield part, whole
    if rest:
        yield rest, 1


def _squares(size: int, part: int) -> Iterator[tuple[int, int, bool, int]]:
    """Rows, columns, whether they differ, and the number, of the blocks on and above the diagonal."""
    whole, rest = divmod(size, part)
    yield part, part, False, whole
    yield part, part, True, whole * (whole - 1) // 2
    if rest:
        yield rest, rest, False, 1
        yield part, rest, True, whole

"""How large the blocks of a gradient pass in two levels are: such that their launches fill the multiprocessors."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from contrastive_ops.backends.gpu.gpu_size import GpuSize
from contrastive_ops.backends.gpu.kernels import MacroTiles, ceil_div
from contrastive_ops.backends.gpu.waves import finish_time

TALLEST = 96  # tiles: taller blocks leave too few columns
COMPARED = 24  # sizes that fill the GPU best by themselves, of which the best for the whole matrix is taken
KEPT_DEPTH = 256  # a pair whose product is read back instead takes as long as so many multiply-adds: assumed
LAUNCH_LENGTH = (
    1 << 22
)  # multiply-adds of a multiprocessor in the microsecond in which a launch starts and drains: assumed


class MacroMatrix(NamedTuple):
    """What the size of the blocks depends on."""

    rows: int
    cols: int
    d: int
    banks: int
    itemsize: int  # of a weight
    self_similarity: bool
    is_kept: bool
    of_queries: bool  # whether their gradient is wanted
    of_keys: bool
    tiles: MacroTiles
    gpu: GpuSize


@lru_cache(maxsize=256)
def block_size(matrix: MacroMatrix) -> tuple[int, int]:
    """Height and width of the blocks, in whole tiles of both launches; one size, but for the last ones. Alike in
    self-similarity, whose blocks are squares."""
    sizes = list(_candidates(matrix))
    if not matrix.self_similarity:
        sizes.sort(key=lambda size: _launches_time(matrix, *size) / (size[0] * size[1]))
        sizes = sizes[:COMPARED]
    return min(sizes, key=lambda size: pass_time(matrix, *size))


def pass_time(matrix: MacroMatrix, height: int, width: int) -> int:
    """Of all blocks, in multiply-adds of one multiprocessor."""
    if matrix.self_similarity:
        return sum(
            count * _launches_time(matrix, rows, cols, rows_differ)
            for rows, cols, rows_differ, count in _squares(matrix.rows, height)
        )
    return sum(
        count * times * _launches_time(matrix, rows, cols)
        for rows, count in _parts(matrix.rows, height)
        for cols, times in _parts(matrix.cols, width)
    )


def fullness(matrix: MacroMatrix, height: int, width: int) -> float:
    """Of a block's launches together: the share of their time in which multiprocessors have a program."""
    launches = _launches(matrix, height, width)
    work = sum(count * length for programs in launches for count, length in programs)
    return (
        work
        / sum(finish_time(matrix.gpu.multiprocessors, programs) for programs in launches)
        / matrix.gpu.multiprocessors
    )


def _candidates(matrix: MacroMatrix) -> Iterator[tuple[int, int]]:
    """As wide as the memory allows, or somewhat less."""
    down, across, depth = *matrix.tiles.scores, max(matrix.tiles.products[::2])
    step_rows, step_cols = max(down, depth), max(across, depth)  # powers of two
    if matrix.self_similarity:
        step_rows = step_cols = max(step_rows, step_cols)
    tall, wide = ceil_div(matrix.rows, step_rows), ceil_div(matrix.cols, step_cols)
    most = max(1, matrix.gpu.macro_bytes // (matrix.banks * matrix.itemsize * step_rows * step_cols))
    for height in range(1, min(tall, most, TALLEST) + 1):
        widest = min(wide, most // height)
        if not matrix.self_similarity:
            yield from ((height * step_rows, width * step_cols) for width in range(max(1, widest * 5 // 8), widest + 1))
        elif height <= widest:
            yield height * step_rows, height * step_cols


def _launches_time(matrix: MacroMatrix, rows: int, cols: int, rows_differ: bool = True) -> int:
    launches = _launches(matrix, rows, cols, rows_differ)
    return sum(LAUNCH_LENGTH + finish_time(matrix.gpu.multiprocessors, programs) for programs in launches)


def _launches(matrix: MacroMatrix, rows: int, cols: int, rows_differ: bool = True) -> list[list[tuple[int, int]]]:
    """The programs of each launch of a block: how many, and the multiply-adds of one. In self-similarity both gradients
    are the queries', and of a block on the diagonal there is one."""
    (down, across), (lines, columns, _) = matrix.tiles
    depth = KEPT_DEPTH if matrix.is_kept else matrix.d * matrix.banks
    scores = (ceil_div(rows, down) * ceil_div(cols, across), down * across * depth)
    slices = ceil_div(matrix.d, columns)
    products = []
    if matrix.of_queries:
        products.append((ceil_div(rows, lines) * slices, lines * columns * cols * matrix.banks))
    if rows_differ if matrix.self_similarity else matrix.of_keys:
        products.append((matrix.banks * ceil_div(cols, lines) * slices, lines * columns * rows))
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

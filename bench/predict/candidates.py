"""Tiles that a kernel could have instead of the one in the table, and how to put one in its place."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from contrastive_ops.backends.triton import tiles
from contrastive_ops.backends.triton.tiles import ANY_D, TABLE, Row, Tile

KERNELS = ("reduce", "gradient", "macro_gradient", "macro_product")
SHARED_BYTES = {"sm_80": 163 << 10, "sm_86": 99 << 10, "sm_90": 227 << 10, "sm_100": 227 << 10, "gfx942": 64 << 10}
MAX_ACCUMULATORS = 192  # float32 numbers that a thread can hold beside addresses and the rest; 255 registers at most
WIDEST_RESIDENT = 512  # D of a tile of rows that stays in shared memory


def candidate_tiles(kernel: str, arch: str, precision: str, d: int) -> Iterator[Tile]:
    """Tiles of usual sizes whose sums fit in registers and whose operands fit in shared memory, roughly counted."""
    size = 2 if precision == "half" else 4
    padded = max(16, 1 << (d - 1).bit_length())
    holds_rows = kernel == "gradient"
    if holds_rows:
        depths = [0]
    elif kernel == "reduce" and padded <= WIDEST_RESIDENT:
        depths = [0, 32, 64]
    else:
        depths = [32, 64, 128]
    for m, n, k, warps, stages in itertools.product((64, 128, 256), (32, 64, 128, 256), depths, (4, 8), (1, 2, 3, 4)):
        threads = warps * (64 if arch.startswith("gfx") else 32)
        sums = m * n + (m * padded if holds_rows else 0)
        if m * n < 32 * threads // 4 or sums > MAX_ACCUMULATORS * threads:
            continue
        depth = k or padded
        operands = stages * (m + n) * k if k else (m + stages * n) * depth
        if operands * size <= SHARED_BYTES.get(arch, 99 << 10):
            yield Tile(m, n, k, warps, stages)


@contextmanager
def replaced_tile(kernel: str, arch: str, precision: str, tile: Tile) -> Iterator[None]:
    """The launches inside use `tile` for every D; `tile.block_d` 0 means the whole of it, as in the table."""
    with mock.patch.dict(TABLE[kernel], {(arch, precision): (Row(ANY_D, tile),)}):
        yield


@contextmanager
def two_levels() -> Iterator[None]:
    """Gradients take macro-blocks, also for a D that the one-level kernel takes."""
    with mock.patch.dict(TABLE["gradient"], dict.fromkeys(TABLE["gradient"], ())):
        yield


def table_tile(kernel: str, arch: str, precision: str, d: int) -> Tile | None:
    """As written in the table, block_d not filled in; None where this D is not for the kernel."""
    for row in tiles.TABLE[kernel][(arch, precision)]:
        if d <= row.max_d:
            return row.tile
    return None


def table_row(tile: Tile, max_d: int | None) -> str:
    """Python source of a row; None for one without an end."""
    return f"Row({'ANY_D' if max_d is None else max_d}, Tile({', '.join(map(str, tile))}))"

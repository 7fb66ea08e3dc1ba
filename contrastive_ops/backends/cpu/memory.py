"""What a problem needs of memory: the state from forward to backward, and the scratch of a call."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from contrastive_ops.backends.base import DTYPE_CODES
from contrastive_ops.backends.cpu import native
from contrastive_ops.backends.cpu.tiling import (
    LARGEST_BLOCK,
    SMALLEST_BLOCK,
    Shape,
    Tiling,
    ceil_div,
    tiling_of,
    volume_columns,
)
from contrastive_ops.scores import ScoreKind

ALIGNMENT = 64


Piece = str | tuple[int, str]  # a member of `Params`, or (number of the reduction, what of it)


class Layout:
    """Aligned pieces of one block; the first starts at offset 0."""

    def __init__(self) -> None:
        self.offsets: dict[Piece, int] = {}
        self.sizes: dict[Piece, int] = {}
        self.total = 0

    def add(self, name: Piece, size: int) -> None:
        self.offsets[name] = self.total
        self.sizes[name] = size
        self.total += ceil_div(size, ALIGNMENT) * ALIGNMENT


class Plan(NamedTuple):
    """All that a shape decides, the same from call to call."""

    tiling: Tiling
    order: tuple[int, ...]  # of the reductions in the kernels: what changes the scores comes last
    state: Layout
    forward: Layout  # scratch of the score pass: what lines are merged into, and packed operands without a state
    kept_tiles: int
    scratch_bytes: int  # of one thread


@lru_cache(maxsize=256)
def plan_of(shape: Shape) -> Plan:
    tiling, state = tiling_of(shape), state_layout(shape)
    dtype = DTYPE_CODES[shape.dtype]
    order = tuple(sorted(range(len(shape.kinds)), key=lambda r: shape.kinds[r].overwrites))
    forward = Layout()
    if not shape.has_slope:
        _add_operands(forward, shape)
    kernels = native.kernels()
    for r, (kind, directions) in enumerate(zip(shape.kinds, shape.directions, strict=True)):
        line_bytes = kernels.state_bytes(dtype, int(kind.kind))
        for wanted, lines, length in zip(directions, ("rows", "columns"), (shape.m, shape.n), strict=True):
            if wanted and not kernels.state_is_result(int(kind.kind)):
                forward.add((r, lines), shape.batch * length * line_bytes)
        if directions[0] and tiling.stripes > 1:
            forward.add((r, "row_stripes"), (tiling.stripes - 1) * shape.batch * shape.m * line_bytes)
    tile_bytes = shape.banks * tiling.block_m * tiling.block_n * shape.statistics_dtype.itemsize
    kept_tiles = min(shape.batch * tiling.tiles, state.sizes.get("kept", 0) // tile_bytes)
    keys_depth = shape.d if tiling.stripes else 0
    scratch_bytes = kernels.scratch_bytes(
        dtype, int(shape.score), shape.banks, shape.changing > 1, tiling.block_m, tiling.block_n, keys_depth
    )
    return Plan(tiling, order, state, forward, kept_tiles, scratch_bytes)


def state_layout(shape: Shape) -> Layout:
    """Packed operands, tile references and kept tiles; shapes as in `csrc/cpu/params.h`.

    Sizes are bounds over all tilings, without a branch on M or N: a compiled graph serves every shape.
    """
    layout = Layout()
    if not shape.has_slope:
        return layout  # nothing to go back for
    _add_operands(layout, shape)
    row_tiles = ceil_div(shape.m, SMALLEST_BLOCK)
    col_tiles = ceil_div(shape.n, min(SMALLEST_BLOCK, volume_columns(shape)))
    for r, kind in enumerate(shape.kinds):
        if kind.overwrites:
            layout.add((r, "tile_reference"), shape.batch * row_tiles * col_tiles * shape.statistics_dtype.itemsize)
    is_dot = shape.score is ScoreKind.DOT
    if is_dot and not shape.changing:
        return layout  # no gradient reads a score
    all_products = shape.batch * shape.banks * (shape.m + LARGEST_BLOCK) * (shape.n + LARGEST_BLOCK)
    # the packed banks of a volume are many times the queries, so they are paid from the budget
    budget = shape.workspace_bytes - (0 if is_dot else layout.sizes["packed_keys"])
    layout.add("kept", torch.sym_min(torch.sym_max(budget, 0), all_products * shape.statistics_dtype.itemsize))
    return layout


def _add_operands(layout: Layout, shape: Shape) -> None:
    batch, m, n, d = shape[:4]
    item = shape.statistics_dtype.itemsize
    panel = native.kernels().panel(DTYPE_CODES[shape.dtype])
    d_padded, n_padded = ceil_div(d, panel) * panel, ceil_div(n, panel) * panel
    layout.add("packed_queries", batch * m * d_padded * item)
    if shape.self_similarity:
        layout.offsets["packed_keys"] = layout.offsets["packed_queries"]
    elif not shape.shares_keys:
        layout.add("packed_keys", batch * ((shape.banks - 1) * n_padded + n) * d_padded * item)


def keys_bytes(shape: Shape) -> int:
    """Of the packed keys, where panels share them."""
    layout = Layout()
    _add_operands(layout, shape._replace(shares_keys=False))
    return layout.sizes["packed_keys"]


def new_state(size: int) -> Tensor:
    """A block as a tensor, which keeps it alive."""
    return torch.frombuffer(native.new_block(max(size, 1)), dtype=torch.uint8)[:size]

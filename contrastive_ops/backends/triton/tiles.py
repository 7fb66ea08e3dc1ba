"""Which tile each kernel uses: a frozen table by architecture, precision and D. No autotuner runs behind a loss.

How the rows were chosen: docs/triton_kernels.md. `python -m bench.tune` measures other tiles on a GPU and prints rows.
"""

from __future__ import annotations

import sys
from typing import NamedTuple

INTERPRETER = "interpreter"  # TRITON_INTERPRET=1: small tiles, so that small problems cross every border
ANY_D = sys.maxsize
DESCRIPTOR_ARCHS = ("sm_90", "sm_100")
INTERPRETER_STRIPES = 3  # several tiles in a stripe


class Tile(NamedTuple):
    """Sizes and resources of one kernel."""

    block_m: int
    block_n: int
    block_d: int  # 0: all of D in one block, a power of two
    warps: int
    stages: int


class Row(NamedTuple):
    """Tiles for D up to `max_d` and scores of up to `max_banks` products."""

    max_d: int
    tile: Tile
    max_banks: int = 1


# dS from products that were kept: nothing to multiply, so one tile for every architecture
KEPT_GRADIENT = Tile(32, 64, 64, 8, 1)

# kernel -> (architectures, precision) -> rows in ascending max_d and max_banks
_ROWS: dict[str, dict[tuple[str, str], tuple[Row, ...]]] = {
    "reduce": {
        (INTERPRETER, "any"): (Row(128, Tile(64, 64, 0, 4, 1)), Row(ANY_D, Tile(64, 64, 64, 4, 1))),
        ("sm_80 sm_86", "half"): (Row(128, Tile(128, 64, 0, 8, 2)), Row(ANY_D, Tile(128, 128, 64, 8, 3))),
        ("sm_80", "tf32"): (Row(64, Tile(128, 64, 0, 8, 2)), Row(ANY_D, Tile(128, 128, 32, 8, 2))),
        ("sm_80 sm_86 sm_90 sm_100", "fp32"): (Row(ANY_D, Tile(64, 32, 16, 4, 2)),),
        ("sm_80 sm_86 sm_90 sm_100 gfx942", "fp64"): (Row(ANY_D, Tile(64, 64, 16, 8, 2)),),
        ("sm_86", "tf32"): (Row(64, Tile(128, 64, 0, 8, 2)), Row(ANY_D, Tile(128, 128, 32, 8, 3))),
        ("sm_90", "half"): (Row(256, Tile(64, 64, 0, 8, 2)), Row(ANY_D, Tile(128, 64, 64, 8, 2))),
        ("sm_90", "tf32"): (Row(128, Tile(64, 64, 0, 8, 2)), Row(ANY_D, Tile(128, 64, 32, 8, 2))),
        ("sm_100", "half"): (Row(256, Tile(64, 64, 0, 8, 1)), Row(ANY_D, Tile(64, 64, 64, 8, 3))),
        ("sm_100", "tf32"): (Row(128, Tile(64, 64, 0, 8, 1)), Row(ANY_D, Tile(64, 64, 32, 8, 3))),
        ("gfx942", "half"): (Row(256, Tile(64, 64, 0, 4, 1)), Row(ANY_D, Tile(128, 64, 64, 8, 1))),
        ("gfx942", "tf32"): (Row(128, Tile(64, 64, 0, 4, 1)), Row(ANY_D, Tile(128, 64, 32, 8, 1))),
        ("gfx942", "fp32"): (Row(128, Tile(64, 64, 0, 4, 1)), Row(ANY_D, Tile(128, 64, 32, 8, 1))),
    },
    # where products are kept, in place of the row above: their way to memory takes registers, and larger tiles spill
    "kept_reduce": {
        ("sm_80 sm_86", "half"): (Row(ANY_D, Tile(64, 128, 64, 8, 3)),),
        ("sm_80 sm_86", "tf32"): (Row(ANY_D, Tile(64, 128, 32, 8, 3)),),
        ("sm_90", "half"): (Row(ANY_D, Tile(64, 64, 64, 8, 3)),),
        ("sm_90", "tf32"): (Row(ANY_D, Tile(64, 64, 32, 8, 3)),),
    },
    # rows end where the accumulator leaves the registers: larger D goes to the two-level kernels
    "gradient": {
        (INTERPRETER, "any"): (Row(128, Tile(64, 64, 0, 4, 1)),),
        ("sm_80", "half"): (
            Row(64, Tile(128, 32, 0, 8, 2)),
            Row(128, Tile(64, 64, 0, 8, 2)),
            Row(256, Tile(32, 128, 0, 8, 2)),
            Row(512, Tile(32, 64, 0, 8, 2)),
        ),
        ("sm_80", "tf32"): (
            Row(64, Tile(128, 32, 0, 8, 2)),
            Row(128, Tile(64, 32, 0, 4, 2)),
            Row(256, Tile(32, 64, 0, 8, 2)),
        ),
        ("sm_80 sm_86 sm_100", "fp32"): (Row(64, Tile(64, 32, 0, 8, 2)), Row(128, Tile(32, 32, 0, 4, 2))),
        ("sm_80 sm_90", "fp64"): (Row(64, Tile(32, 32, 0, 4, 2)), Row(128, Tile(32, 32, 0, 8, 1))),
        ("sm_86", "half"): (
            Row(64, Tile(128, 32, 0, 8, 2)),
            Row(128, Tile(64, 64, 0, 8, 2)),
            Row(256, Tile(32, 128, 0, 8, 2)),
            Row(512, Tile(32, 32, 0, 8, 2)),
        ),
        ("sm_86", "tf32"): (
            Row(64, Tile(128, 32, 0, 8, 2)),
            Row(128, Tile(64, 32, 0, 4, 2)),
            Row(256, Tile(32, 16, 0, 4, 2)),
        ),
        ("sm_86", "fp64"): (Row(64, Tile(32, 32, 0, 8, 1)), Row(128, Tile(32, 16, 0, 8, 1))),
        ("sm_90", "half"): (
            Row(64, Tile(128, 32, 0, 4, 2)),
            Row(128, Tile(128, 64, 0, 8, 2)),
            Row(256, Tile(128, 32, 0, 8, 2)),
            Row(512, Tile(64, 64, 0, 8, 2)),
        ),
        ("sm_90", "tf32"): (
            Row(64, Tile(128, 64, 0, 8, 2)),
            Row(128, Tile(64, 64, 0, 8, 2)),
            Row(256, Tile(64, 32, 0, 8, 2)),
        ),
        ("sm_90", "fp32"): (Row(64, Tile(64, 32, 0, 8, 2)), Row(128, Tile(32, 32, 0, 8, 2))),
        ("sm_100", "half"): (
            Row(64, Tile(128, 64, 0, 8, 2)),
            Row(128, Tile(128, 64, 0, 8, 2)),
            Row(256, Tile(128, 32, 0, 8, 2)),
            Row(512, Tile(64, 32, 0, 8, 2)),
        ),
        ("sm_100", "tf32"): (Row(128, Tile(64, 64, 0, 8, 2)), Row(256, Tile(64, 32, 0, 8, 2))),
        ("sm_100", "fp64"): (Row(64, Tile(32, 32, 0, 4, 2)), Row(128, Tile(32, 16, 0, 8, 1))),
        ("gfx942", "half"): (Row(128, Tile(128, 16, 0, 4, 1)), Row(256, Tile(128, 16, 0, 8, 1))),
        ("gfx942", "tf32"): (Row(64, Tile(128, 16, 0, 4, 1)), Row(128, Tile(128, 16, 0, 8, 1))),
        ("gfx942", "fp32"): (Row(64, Tile(128, 16, 0, 4, 1)), Row(128, Tile(128, 16, 0, 8, 1))),
        ("gfx942", "fp64"): (Row(64, Tile(32, 32, 0, 8, 1)), Row(128, Tile(32, 32, 0, 8, 1))),
    },
    "macro_gradient": {
        (INTERPRETER, "any"): (Row(ANY_D, Tile(64, 64, 64, 4, 1)),),
        ("sm_80 sm_86", "half"): (Row(ANY_D, Tile(128, 128, 32, 8, 3)),),
        ("sm_80 sm_86", "tf32"): (Row(ANY_D, Tile(128, 128, 16, 8, 4)),),
        ("sm_80 sm_100", "fp32"): (Row(ANY_D, Tile(64, 64, 16, 8, 2)),),
        ("sm_80 sm_86 sm_90 sm_100 gfx942", "fp64"): (Row(ANY_D, Tile(64, 64, 16, 8, 2)),),
        ("sm_86", "fp32"): (Row(ANY_D, Tile(128, 64, 16, 8, 2)),),
        ("sm_90", "half"): (Row(ANY_D, Tile(128, 128, 64, 16, 3)),),
        ("sm_90 sm_100", "tf32"): (Row(ANY_D, Tile(128, 64, 32, 8, 3)),),
        ("sm_90", "fp32"): (Row(ANY_D, Tile(64, 64, 16, 4, 2)),),
        ("sm_100", "half"): (Row(ANY_D, Tile(128, 64, 64, 8, 3)),),
        ("gfx942", "half"): (Row(ANY_D, Tile(128, 64, 64, 8, 2)),),
        ("gfx942", "tf32"): (Row(ANY_D, Tile(128, 64, 32, 8, 2)),),
        ("gfx942", "fp32"): (Row(ANY_D, Tile(128, 64, 32, 8, 2)),),
    },
    # for further reductions than sums and one whose slope is of its result, where the tile above spills; of its depth
    "several_reduce": {
        ("sm_80 sm_86", "half"): (Row(128, Tile(128, 64, 0, 8, 2)), Row(ANY_D, Tile(64, 128, 64, 8, 3))),
        ("sm_80", "tf32"): (Row(64, Tile(128, 64, 0, 8, 2)), Row(ANY_D, Tile(64, 128, 32, 8, 2))),
        ("sm_86", "tf32"): (Row(64, Tile(128, 64, 0, 8, 2)), Row(ANY_D, Tile(64, 128, 32, 8, 3))),
        ("sm_90", "half"): (Row(256, Tile(64, 64, 0, 8, 2)), Row(ANY_D, Tile(64, 64, 64, 8, 2))),
        ("sm_90", "tf32"): (Row(128, Tile(64, 64, 0, 8, 2)), Row(ANY_D, Tile(64, 64, 32, 8, 2))),
        ("sm_90", "fp32"): (Row(ANY_D, Tile(64, 64, 16, 8, 2)),),
        ("sm_80", "fp64"): (Row(ANY_D, Tile(32, 64, 16, 8, 2)),),
    },
    # for several reductions whose slopes are of their results, where half of the columns of the rows above spill
    "several_gradient": {
        ("sm_80", "tf32"): (
            Row(64, Tile(128, 16, 0, 8, 2)),
            Row(128, Tile(64, 16, 0, 8, 2)),
            Row(256, Tile(32, 32, 0, 8, 2)),
        ),
        ("sm_86", "fp32"): (Row(64, Tile(32, 32, 0, 8, 2)), Row(128, Tile(32, 16, 0, 4, 2))),
        ("sm_86", "fp64"): (Row(64, Tile(32, 16, 0, 8, 1)), Row(128, Tile(32, 16, 0, 4, 1))),
        ("sm_90", "fp32"): (Row(128, Tile(32, 32, 0, 8, 2)),),
    },
    "several_macro_gradient": {
        ("sm_100", "fp32"): (Row(ANY_D, Tile(64, 32, 16, 4, 2)),),
    },
    # K products a pair fill the registers: less of both sides the more there are (7 at most)
    "volume_reduce": {
        (INTERPRETER, "any"): (Row(ANY_D, Tile(64, 64, 64, 4, 1), 7),),
        ("sm_80 sm_86", "half"): (
            Row(ANY_D, Tile(64, 128, 32, 8, 2), 2),
            Row(ANY_D, Tile(32, 128, 32, 8, 2), 4),
            Row(ANY_D, Tile(16, 64, 32, 8, 2), 7),
        ),
        ("sm_80 sm_86", "tf32"): (
            Row(ANY_D, Tile(64, 128, 16, 8, 2), 2),
            Row(ANY_D, Tile(32, 128, 16, 8, 2), 4),
            Row(ANY_D, Tile(16, 64, 16, 8, 2), 7),
        ),
        ("sm_80 sm_86 sm_90 sm_100", "fp32"): (
            Row(ANY_D, Tile(32, 64, 16, 8, 2), 4),
            Row(ANY_D, Tile(32, 32, 16, 8, 2), 7),
        ),
        ("sm_80 sm_90", "fp64"): (Row(ANY_D, Tile(32, 32, 16, 8, 2), 4), Row(ANY_D, Tile(16, 32, 16, 8, 1), 7)),
        ("sm_86 sm_100", "fp64"): (Row(ANY_D, Tile(32, 32, 16, 8, 2), 4), Row(ANY_D, Tile(16, 32, 16, 8, 2), 7)),
        ("sm_90", "half"): (
            Row(ANY_D, Tile(64, 64, 64, 4, 2), 2),
            Row(ANY_D, Tile(64, 32, 64, 4, 2), 4),
            Row(ANY_D, Tile(64, 16, 64, 8, 2), 7),
        ),
        ("sm_90", "tf32"): (
            Row(ANY_D, Tile(64, 64, 32, 4, 2), 2),
            Row(ANY_D, Tile(64, 32, 32, 4, 2), 4),
            Row(ANY_D, Tile(64, 16, 32, 8, 2), 7),
        ),
        ("sm_100", "half"): (
            Row(ANY_D, Tile(64, 64, 64, 8, 2), 2),
            Row(ANY_D, Tile(64, 32, 64, 8, 2), 4),
            Row(ANY_D, Tile(64, 16, 64, 8, 2), 6),
            Row(ANY_D, Tile(32, 16, 64, 8, 2), 7),
        ),
        ("sm_100", "tf32"): (
            Row(ANY_D, Tile(64, 64, 32, 8, 2), 2),
            Row(ANY_D, Tile(64, 32, 32, 8, 2), 4),
            Row(ANY_D, Tile(64, 16, 32, 8, 2), 7),
        ),
        ("gfx942", "half"): (Row(ANY_D, Tile(64, 32, 64, 4, 1), 3), Row(ANY_D, Tile(64, 16, 64, 4, 1), 7)),
        ("gfx942", "tf32"): (Row(ANY_D, Tile(64, 32, 32, 4, 1), 4), Row(ANY_D, Tile(64, 16, 32, 4, 1), 7)),
        ("gfx942", "fp32"): (Row(ANY_D, Tile(64, 32, 32, 4, 1), 4), Row(ANY_D, Tile(64, 16, 32, 4, 1), 7)),
        ("gfx942", "fp64"): (Row(ANY_D, Tile(32, 32, 16, 8, 1), 4), Row(ANY_D, Tile(16, 16, 16, 4, 1), 7)),
    },
    "volume_macro_gradient": {
        (INTERPRETER, "any"): (Row(ANY_D, Tile(64, 64, 64, 4, 1), 7),),
        ("sm_80", "half"): (Row(ANY_D, Tile(32, 128, 32, 8, 2), 4), Row(ANY_D, Tile(16, 64, 32, 8, 2), 7)),
        ("sm_80", "tf32"): (Row(ANY_D, Tile(32, 128, 16, 8, 2), 4), Row(ANY_D, Tile(32, 64, 16, 8, 2), 7)),
        ("sm_80 sm_86 sm_90 sm_100", "fp32"): (
            Row(ANY_D, Tile(32, 64, 16, 8, 2), 4),
            Row(ANY_D, Tile(32, 32, 16, 8, 2), 7),
        ),
        ("sm_80 sm_86 sm_90 sm_100", "fp64"): (Row(ANY_D, Tile(16, 32, 16, 8, 2), 7),),
        ("sm_86", "half"): (Row(ANY_D, Tile(32, 128, 32, 8, 2), 4), Row(ANY_D, Tile(32, 64, 32, 8, 2), 7)),
        ("sm_86", "tf32"): (
            Row(ANY_D, Tile(64, 128, 16, 8, 2), 2),
            Row(ANY_D, Tile(32, 128, 16, 8, 2), 4),
            Row(ANY_D, Tile(32, 64, 16, 8, 2), 7),
        ),
        ("sm_90", "half"): (Row(ANY_D, Tile(64, 32, 64, 8, 2), 4), Row(ANY_D, Tile(64, 16, 64, 8, 2), 7)),
        ("sm_90", "tf32"): (Row(ANY_D, Tile(64, 32, 32, 8, 2), 4), Row(ANY_D, Tile(64, 16, 32, 8, 2), 7)),
        ("sm_100", "half"): (
            Row(ANY_D, Tile(64, 32, 64, 8, 2), 2),
            Row(ANY_D, Tile(64, 16, 64, 8, 2), 6),
            Row(ANY_D, Tile(16, 64, 64, 8, 2), 7),
        ),
        ("sm_100", "tf32"): (
            Row(ANY_D, Tile(64, 32, 32, 8, 2), 2),
            Row(ANY_D, Tile(64, 16, 32, 8, 2), 6),
            Row(ANY_D, Tile(16, 64, 32, 8, 2), 7),
        ),
        ("gfx942", "half"): (Row(ANY_D, Tile(64, 32, 64, 4, 1), 3), Row(ANY_D, Tile(64, 16, 64, 4, 1), 7)),
        ("gfx942", "tf32"): (Row(ANY_D, Tile(64, 32, 32, 4, 1), 4), Row(ANY_D, Tile(64, 16, 32, 4, 1), 7)),
        ("gfx942", "fp32"): (Row(ANY_D, Tile(64, 32, 32, 4, 1), 4), Row(ANY_D, Tile(64, 16, 32, 4, 1), 7)),
        ("gfx942", "fp64"): (Row(ANY_D, Tile(32, 32, 16, 8, 1), 4), Row(ANY_D, Tile(16, 16, 16, 4, 1), 7)),
    },
    # here block_n counts columns of the gradient and block_d the depth of the product
    "macro_product": {
        (INTERPRETER, "any"): (Row(ANY_D, Tile(64, 64, 64, 4, 1)),),
        ("sm_80 sm_86", "half"): (Row(ANY_D, Tile(128, 128, 32, 8, 4)),),
        ("sm_80 sm_86", "tf32"): (Row(ANY_D, Tile(128, 128, 16, 8, 4)),),
        ("sm_80 sm_86 sm_90 sm_100", "fp32"): (Row(ANY_D, Tile(128, 64, 16, 8, 2)),),
        ("sm_80", "fp64"): (Row(ANY_D, Tile(64, 64, 16, 4, 2)),),
        ("sm_86 sm_100 gfx942", "fp64"): (Row(ANY_D, Tile(64, 64, 16, 8, 2)),),
        ("sm_90", "half"): (Row(ANY_D, Tile(128, 256, 64, 8, 3)),),
        ("sm_90 sm_100", "tf32"): (Row(ANY_D, Tile(128, 128, 32, 8, 3)),),
        ("sm_90", "fp64"): (Row(ANY_D, Tile(64, 64, 16, 4, 1)),),
        ("sm_100", "half"): (Row(ANY_D, Tile(128, 128, 64, 8, 4)),),
        ("gfx942", "half"): (Row(ANY_D, Tile(128, 128, 64, 8, 1)),),
        ("gfx942", "tf32"): (Row(ANY_D, Tile(128, 128, 32, 8, 1)),),
        ("gfx942", "fp32"): (Row(ANY_D, Tile(128, 128, 32, 8, 1)),),
    },
}

# kernel -> (architecture, precision) -> rows
TABLE = {
    kernel: {(arch, precision): rows for (archs, precision), rows in entries.items() for arch in archs.split()}
    for kernel, entries in _ROWS.items()
}


def find_tile(kernel: str, arch: str, precision: str, d: int, banks: int = 1) -> Tile | None:
    """The tile for this D, with `block_d` filled in; None where the kernel does not take such a D."""
    rows = TABLE[kernel].get((arch, "any" if arch == INTERPRETER else precision), ())
    for row in rows:
        if d <= row.max_d and banks <= row.max_banks:
            block_d = row.tile.block_d or max(16, 1 << (d - 1).bit_length())
            return row.tile._replace(block_d=block_d)
    return None


def has_descriptors(arch: str, precision: str) -> bool:
    """Whether tiles are loaded by the copy engine (TMA), which takes no registers for addresses.

    It brings them to shared memory, where tensor cores read them; plain multiply-adds want registers, and then spill.
    """
    return arch in DESCRIPTOR_ARCHS and precision in ("half", "tf32")

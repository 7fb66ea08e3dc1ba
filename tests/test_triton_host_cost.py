"""The host of the triton backend is no reason to wait: its launches, exactly, and its processor time."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton", reason="triton exists for Linux only")

from host_speed import slowness
from triton_host_cost import ARCH, PROMISED, PROMISED_STEP, Cost

from contrastive_ops.backends.gpu.gpu_size import H100
from contrastive_ops.backends.gpu.kernels import MacroTiles, ceil_div
from contrastive_ops.backends.gpu.macro_plan import MacroBlocks, block_size
from contrastive_ops.backends.triton.tiles import find_tile

NOISE = 3  # other tests run at the same time


@cache
def costs() -> dict[str, dict[str, Cost]]:
    program = Path(__file__).parent / "triton_host_cost.py"
    run = subprocess.run([sys.executable, program, "--json"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    found: dict[str, Any] = json.loads(run.stdout)
    return {size: {part: Cost(**cost) for part, cost in parts.items()} for size, parts in found.items()}


@pytest.mark.parametrize("n, d", PROMISED)
def test_host_time_is_as_promised(n: int, d: int) -> None:
    assert costs()[f"{n}x{d}"]["backend"].milliseconds <= NOISE * slowness() * PROMISED[n, d]


@pytest.mark.parametrize("n, d", PROMISED_STEP)
def test_a_users_step_is_as_promised(n: int, d: int) -> None:
    assert costs()[f"{n}x{d}"]["step"].milliseconds <= NOISE * slowness() * PROMISED_STEP[n, d]


def test_launches_are_counted() -> None:
    """Score pass and two merges; then two gradients of one side each, or for each macro-block its weights and their
    products."""
    one_level = costs()["4096x512"]
    assert one_level["backend"].launches == one_level["step"].launches == 3 + 2
    n, d = 65536, 768
    scores, products = (find_tile(kernel, ARCH, "half", d) for kernel in ("macro_gradient", "macro_product"))
    assert scores is not None and products is not None
    tiles = MacroTiles(scores[:2], products[:3])
    height, width = block_size(MacroBlocks(d, 1, 2, False, True, True, tiles, H100), n, n)
    blocks = ceil_div(n, height) * ceil_div(n, width)
    assert blocks == 576
    assert costs()[f"{n}x{d}"]["backend"].launches == 3 + 2 * blocks

"""The host of the cuda backend is no reason to wait: what a step asks of CUDA, exactly, and its processor time."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from conftest import NO_EMULATOR
from cuda_host_cost import PROMISED, Cost
from host_speed import slowness

from contrastive_ops.backends.gpu.gpu_size import H100
from contrastive_ops.backends.gpu.kernels import MacroTiles, ceil_div
from contrastive_ops.backends.gpu.macro_plan import MacroBlocks, block_size

pytestmark = pytest.mark.skipif(NO_EMULATOR is not None, reason=str(NO_EMULATOR))

NOISE = 3  # other tests run at the same time


@cache
def costs() -> dict[str, Cost]:
    program = Path(__file__).parent / "cuda_host_cost.py"
    run = subprocess.run([sys.executable, program, "--json"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    found: dict[str, Any] = json.loads(run.stdout)
    return {size: Cost(**cost) for size, cost in found.items()}


@pytest.mark.parametrize("n, d", PROMISED)
def test_host_time_is_as_promised(n: int, d: int) -> None:
    assert costs()[f"{n}x{d}"].milliseconds <= NOISE * slowness() * PROMISED[n, d]


def macro_blocks(n: int, d: int) -> tuple[int, int]:
    """How many, down the rows and across the columns."""
    plan = MacroBlocks(d, 1, 2, False, True, True, MacroTiles((128, 128), (128, 128, 64)), H100)
    height, width = block_size(plan, n, n)
    return ceil_div(n, height), ceil_div(n, width)


def test_launches_are_counted() -> None:
    """Score pass, two merges; for each macro-block its weights and their products; two gradients from their sums."""
    large, small = costs()["65536x768"], costs()["4096x512"]
    rows, cols = macro_blocks(65536, 768)
    assert (rows, cols) == (37, 10)
    assert large.launches == 3 + 2 * rows * cols + 2
    # of the scores in both passes; of the weights as they are and transposed, which end with the matrix, for each of
    # four sizes of blocks; of the other operands a block's lines
    assert large.tensor_maps == 2 + 2 + 2 * 4 + rows + cols
    rows, cols = macro_blocks(4096, 512)
    assert small.launches == 3 + 2 * rows * cols + 2
    # positives of both sides, sums of both gradients
    assert large.fills == small.fills == 4
    assert large.allowances == small.allowances == 0

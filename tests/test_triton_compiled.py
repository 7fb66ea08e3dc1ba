"""What the compiler makes of the Triton kernels: no spills, shared memory within the limit, tensor cores in use.

Compiled for GPUs that need not be here (tests/triton_compiled.py) with the tiles of the table. To keep the time short
bf16 and fp32 stand for the other formats in self-similarity and in the gradients of biases alone, fp16 in volumes.
`python tests/triton_compiled.py sm_90 --everything` compiles them all.
"""

import functools
import json
import os
import re
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")

SCRIPT = Path(__file__).parent / "triton_compiled.py"
BASELINE = json.loads((SCRIPT.parent / "triton_registers.json").read_text())
SHARED_LIMITS = {"sm_80": 163 * 1024, "sm_90": 227 * 1024, "sm_100": 227 * 1024, "gfx942": 64 * 1024}  # bytes a program
REGENERATE = f"with triton {BASELINE['triton']} the baseline was made: python tests/triton_compiled.py --write-baseline"

Found = dict[str, dict[str, Any]]


def compile_kernels(arch: str, *arguments: str) -> Found:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TRITON_")}
    command = [sys.executable, str(SCRIPT), arch, "--json", *arguments]
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert run.returncode == 0, run.stderr[-4000:]
    found: Found = json.loads(run.stdout)
    return found


@functools.cache
def started() -> dict[str, Future[Found]]:
    """All architectures, two at a time, whichever test asks first."""
    pool = ThreadPoolExecutor(2)
    return {arch: pool.submit(compile_kernels, arch) for arch in SHARED_LIMITS}


@pytest.fixture(params=SHARED_LIMITS)
def arch(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def compiled(arch: str) -> Found:
    return started()[arch].result()


def test_nothing_spills(compiled: Found) -> None:
    assert {key: f for key, f in compiled.items() if f["spills"]} == {}


def test_scalar_spills_do_not_grow(compiled: Found) -> None:
    """AMD keeps the tests of 32 pairs a lane in pairs of scalar registers, of which there are too few; the rest waits
    in lanes of vector registers and touches no memory."""
    allowed = BASELINE["scalar_spills"]
    grown = {key: f for key, f in compiled.items() if f["scalar_spills"] > allowed.get(key, 0)}
    assert grown == {}, f"allowed: {allowed}; {REGENERATE}"


def test_shared_memory_fits(arch: str, compiled: Found) -> None:
    assert {key: f for key, f in compiled.items() if f["shared"] > SHARED_LIMITS[arch]} == {}


def test_tensor_cores_multiply(arch: str, compiled: Found) -> None:
    """float32 at full precision has none on NVIDIA, and multiplies without them; merging partials is no product, and
    kept products are not computed again."""

    def expects_tensor(key: str) -> bool:
        return arch == "gfx942" or " fp32 " not in key

    others = r"merge|macro_sums|macro_gradient \(kept\)"
    products = {key: f for key, f in compiled.items() if not re.search(others, key)}
    assert {key for key, f in products.items() if expects_tensor(key) and not f["tensor"]} == set()
    assert {key for key, f in products.items() if not expects_tensor(key) and not f["fma"]} == set()


def test_registers_do_not_grow(arch: str, compiled: Found) -> None:
    baseline = {key: count for key, count in BASELINE["registers"].items() if key.startswith(f"{arch} ")}
    assert compiled.keys() == baseline.keys(), REGENERATE
    grown = {key: (baseline[key], f["registers"]) for key, f in compiled.items() if f["registers"] > baseline[key]}
    assert grown == {}, f"registers before and now; {REGENERATE}"


def test_a_tile_too_large_is_caught() -> None:
    """128 x 512 sums of a tile of rows are 512 registers in each of 128 threads."""
    found = compile_kernels("sm_80", "--only", r"gradient \(embeddings\) bf16 D=512", "--tile", "128,128,0,4,2")
    assert [f["spills"] > 0 for f in found.values()] == [True]
    assert [f["shared"] > SHARED_LIMITS["sm_80"] for f in found.values()] == [True]

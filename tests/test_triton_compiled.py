"""What the compiler makes of the Triton kernels: no spills, shared memory within the limit, tensor cores in use.

Compiled for GPUs that need not be here (tests/triton_compiled.py) with the tiles of the table. To keep the time short
bf16 and fp32 stand for the other formats in self-similarity and in the gradients of biases alone, fp16 in volumes.
`python tests/triton_compiled.py sm_90 --everything` compiles them all.

What the compiler made of a case that is given to it just as before stands in tests/triton_registers.json: compiled
are cases that changed, and an eighth of the others, another one at every commit.
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
from sampled import commit, is_sampled

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")

SCRIPT = Path(__file__).parent / "triton_compiled.py"
BASELINE = json.loads((SCRIPT.parent / "triton_registers.json").read_text())
FIGURES = {key: dict(zip(BASELINE["fields"], values, strict=True)) for key, values in BASELINE["figures"].items()}
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
    return {arch: pool.submit(compile_kernels, arch, "--known", commit()) for arch in SHARED_LIMITS}


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
    assert compared("scalar_spills", compiled) == {}, REGENERATE


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
    assert compiled.keys() == {key for key in FIGURES if key.startswith(f"{arch} ")}, REGENERATE
    assert compared("registers", compiled) == {}, REGENERATE


def compared(figure: str, compiled: Found) -> dict[str, tuple[int, int]]:
    """Before and now, of what has grown."""
    before = {key: FIGURES[key][figure] for key in compiled if key in FIGURES}
    return {key: (count, compiled[key][figure]) for key, count in before.items() if compiled[key][figure] > count}


def test_the_same_digest_means_the_same_code(compiled: Found) -> None:
    """Of the eighth that is compiled anew."""
    same = {key: f for key, f in compiled.items() if FIGURES.get(key, {}).get("digest") == f["digest"]}
    assert {key: f for key, f in same.items() if f != FIGURES[key]} == {}


CHANGES = """
import json, triton_compiled
from unittest import mock
from contrastive_ops.triton_kernels import tile
from contrastive_ops.triton_kernels.score import dot

(case,) = (c for c in triton_compiled.cases("sm_90") if str(c) == "sm_90 reduce (both sides) bf16 D=1024")
launch, target = triton_compiled.build_launch(case), triton_compiled.ARCHITECTURES["sm_90"].target

def with_code(function, old, new):
    assert old in function.src
    with mock.patch.object(function, "_src", function.src.replace(old, new)):
        return triton_compiled.digest(launch, target)

def with_constant(value):
    with mock.patch.object(tile, "LOG2_E", value):
        return triton_compiled.digest(launch, target)

print(json.dumps({
    "nothing": triton_compiled.digest(launch, target),
    "comments": with_code(dot.dot_value, "of a tile", "of one tile"),
    "called through others": with_code(dot.dot_value, "coordinates[0]", "coordinates[-1]"),
    "constant": with_constant(type(tile.LOG2_E)(1.5)),
    "tile": triton_compiled.digest(launch._replace(arguments=launch.arguments | {"BLOCK_M": 32}), target),
    "warps": triton_compiled.digest(launch._replace(warps=2), target),
    "dtype": triton_compiled.digest_of(case._replace(numbers="fp16")),
    "target": triton_compiled.digest(launch, triton_compiled.ARCHITECTURES["sm_100"].target),
}))
"""


def test_a_change_is_seen() -> None:
    """Wherever it is, but for comments: else its case would not be compiled."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TRITON_")}
    environment["PYTHONPATH"] = os.pathsep.join([str(SCRIPT.parent), str(SCRIPT.parent.parent)])
    run = subprocess.run([sys.executable, "-c", CHANGES], capture_output=True, text=True, check=False, env=environment)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    unchanged = found.pop("nothing")
    assert found.pop("comments") == unchanged
    assert len(found) == 6 and len({unchanged, *found.values()}) == 7


def test_every_case_has_its_turn() -> None:
    """An eighth is compiled at a commit, and after some tens of commits everything was."""
    turns = {key: sum(is_sampled(key, f"commit {n}") for n in range(80)) for key in FIGURES}
    assert min(turns.values()) > 0 and 9 < sum(turns.values()) / len(turns) < 11


def test_a_tile_too_large_is_caught() -> None:
    """128 x 256 sums of a tile of rows are 256 registers in each of 128 threads."""
    found = compile_kernels("sm_80", "--only", r"gradient \(embeddings\) bf16 D=256", "--tile", "128,128,0,4,3")
    assert [f["spills"] > 0 for f in found.values()] == [True]
    assert [f["shared"] > SHARED_LIMITS["sm_80"] for f in found.values()] == [True]

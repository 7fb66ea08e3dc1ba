"""What the compiler made of the CUDA kernels: no spills, tensor cores kept busy, blocks that fit on a multiprocessor.

Counted in the built extension (tests/cuda_compiled.py), whose code is what is shipped; no GPU is needed. Skipped if it
was built without nvcc or for other architectures.
"""

import json
import re
import subprocess
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest
import torch
from cuda_compiled import (
    BASELINE,
    KINDS,
    ROOT,
    SHARED_LIMITS,
    Figures,
    Launch,
    Report,
    find_extension,
    find_nvcc,
    measure,
    measure_extension,
    missing,
    read_cubin,
)
from sass import innermost_loops, matching

from contrastive_ops.backends.base import DTYPE_CODES

BASE = json.loads(BASELINE.read_text())
REGENERATE = "if it is meant: python tests/cuda_compiled.py --write-baseline"

TORCH_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32, "fp64": torch.float64}

Kernels = dict[str, Figures]


@cache
def report() -> Report:
    extension = find_extension()
    assert extension is not None
    return measure_extension(extension)


@pytest.fixture(params=SHARED_LIMITS)
def arch(request: pytest.FixtureRequest) -> str:
    if reason := missing():
        pytest.skip(reason)
    if not any(key.startswith(f"{request.param} ") for key in report().kernels):
        pytest.skip(f"the extension has no code for {request.param}: build it without TORCH_CUDA_ARCH_LIST")
    return str(request.param)


@pytest.fixture
def kernels(arch: str) -> Kernels:
    return {key: f for key, f in report().kernels.items() if key.startswith(f"{arch} ")}


@pytest.fixture
def products(kernels: Kernels) -> Kernels:
    """Those that multiply."""
    others = " (merge_slots|add_parts|finish_gradient) | KeptMainLoop"
    return {key: f for key, f in kernels.items() if not re.search(others, key)}


def test_kept_products_are_not_computed_again(kernels: Kernels) -> None:
    loops = {key: f.loop for key, f in kernels.items() if "KeptMainLoop" in key}
    assert loops == dict.fromkeys(loops, 0) and len(loops) == 8  # for each dtype and set of reductions


def test_nothing_spills(kernels: Kernels) -> None:
    assert {key: (f.spills, f.stack) for key, f in kernels.items() if f.spills or f.stack} == {}


def test_shared_memory_fits(arch: str, kernels: Kernels) -> None:
    assert {key: f.shared for key, f in kernels.items() if f.shared > SHARED_LIMITS[arch][0]} == {}


def test_as_many_blocks_fit_as_are_asked_for(kernels: Kernels) -> None:
    """The registers do by launch bounds; the shared memory also has to."""
    assert {key: (f.min_blocks, f.blocks) for key, f in kernels.items() if f.blocks < f.min_blocks} == {}


def test_main_loops_multiply(products: Kernels) -> None:
    """Half precision by tensor cores, of which those of Hopper have their own instruction; the rest exactly."""

    def multiplies_by(key: str) -> str:
        return next(kind for loop, kind in (("Wgmma", "HGMMA"), ("Mma", "HMMA"), ("Fma", "FMA")) if f" {loop}" in key)

    assert {key: f.mix for key, f in products.items() if f.mix[multiplies_by(key)] == 0} == {}


def test_main_loops_read_memory_by_asynchronous_copies_alone(products: Kernels) -> None:
    assert {key: f.mix for key, f in products.items() if f.mix["global"] or f.mix["local"]} == {}
    assert {key: f.mix for key, f in products.items() if not f.mix["LDGSTS"] and not f.bulk_loads} == {}


def test_hopper_loops_are_bound_by_tensor_cores(products: Kernels) -> None:
    """At least four products a step, and of the clocks that they take a warp spends no more than a quarter on issuing
    instructions: two blocks then leave half of them, and the wait for one barrier is hidden by the products before."""
    hopper = {key: f for key, f in products.items() if "Wgmma" in key}
    assert {key: f.mix for key, f in hopper.items() if f.mix["HGMMA"] < 4 or f.issue > 0.25} == {}
    assert {key: f.mix for key, f in hopper.items() if f.mix["SYNCS"] == 0} == {}


def test_both_products_of_a_macro_block_are_one_kernel(kernels: Kernels) -> None:
    several = {key: f.loops for key, f in kernels.items() if f.loops > 1}
    assert several == dict.fromkeys((key for key in kernels if " macro_product_bwd " in key), 2)


def test_product_tile_is_that_of_the_kernels(kernels: Kernels) -> None:
    """What a block multiplies in a step, and the operands of its three steps in shared memory."""
    extension = import_module("contrastive_ops._cuda")
    for key, f in kernels.items():
        found = re.search(r" macro_product_bwd (\w+)MainLoop<(\w+)>", key)
        if not found:
            continue
        loop, dtype = found[1], TORCH_TYPES[found[2]]
        path = extension.Path.HOPPER if loop == "Wgmma" else extension.Path.PORTABLE
        m, n, k = extension.product_tile(path, DTYPE_CODES[dtype])
        multiplied = {
            "Fma": f.mix["FMA"] * f.threads,
            "Mma": f.mix["HMMA"] * (16 * 8 * 16) * f.threads // 32,
            "Wgmma": f.mix["HGMMA"] * (64 * 128 * 16),  # of a warpgroup, the other one loads
        }
        assert m * n * k == multiplied[loop], key
        assert 0 <= f.shared - 3 * (m + n) * k * dtype.itemsize < 1024, key


@pytest.mark.parametrize("figure", ["registers", "loop"])
def test_figures_do_not_grow(arch: str, kernels: Kernels, figure: str) -> None:
    if report().nvcc != BASE["nvcc"]:
        pytest.skip(f"the baseline is that of nvcc {BASE['nvcc']}, the extension was built by {report().nvcc}")
    baseline = {key: count for key, count in BASE[figure].items() if key.startswith(f"{arch} ")}
    assert kernels.keys() == baseline.keys(), REGENERATE
    now = {key: getattr(f, figure) for key, f in kernels.items()}
    assert {key: (baseline[key], count) for key, count in now.items() if count > baseline[key]} == {}, REGENERATE


CROWDED = """
#include "macro_product_bwd.cuh"
#include "portable.cuh"

namespace contrastive_ops::cuda {

struct Crowded : MacroProductLoops<MmaMainLoop<__half, false, true>, MmaMainLoop<__half, true, true>> {
  static constexpr int kMinBlocks = 4;
};
template __global__ void macro_product_bwd_kernel(const __grid_constant__ Arguments<Crowded, MacroProductParams>);

}
"""


@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_too_many_blocks_are_caught(tmp_path: Path) -> None:
    """Four blocks of 256 threads leave 64 registers to each, as many as the sums of a tile take."""
    nvcc, source, cubin = find_nvcc(), tmp_path / "crowded.cu", tmp_path / "crowded.cubin"
    assert nvcc is not None
    source.write_text(CROWDED)
    options = ["-std=c++17", "-O3", "-arch=sm_80", "-Xptxas", "-warn-spills", f"-I{ROOT / 'csrc' / 'cuda'}"]
    run = subprocess.run([nvcc, "-cubin", *options, source, "-o", cubin], check=True, capture_output=True, text=True)
    assert "Registers are spilled" in run.stderr
    (kernel,) = read_cubin(cubin)
    f = measure("sm_80", kernel, Launch(threads=256, min_blocks=4, shared=48 * 1024))
    assert f.spills > 0 and f.stack > 0 and f.mix["local"] > 0
    assert f.blocks < f.min_blocks
    # the loops for operands that are not aligned, which no test looks at, do what the others must not
    unaligned = [loop for loop in innermost_loops(kernel.instructions, "HMMA") if not matching(loop, "LDGSTS")]
    assert [matching(loop, KINDS["global"]) > 0 for loop in unaligned] == [True, True]

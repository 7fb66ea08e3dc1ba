"""Layouts of the CUDA kernels and of their emulator against CuTe's: fragments, swizzle and descriptors.

The package nvidia-cutlass carries CuTe's headers, which compile for the CPU.
"""

from importlib.util import find_spec
from pathlib import Path

import pytest
from emulator_programs import build_program, run_program

from contrastive_ops.testing.emulator_builds import cuda_include

COMPARED = (
    "mma.m16n8k16: fragments of a, b and c",
    "mma.m16n8k16: Accumulator",
    "ldmatrix.x4",
    "ldmatrix.x4.trans",
    *(
        f"{what}, {operand}"
        for operand in ("a, K-major", "a, transposed", "b, K-major", "b, transposed")
        for what in ("TMA: 128-byte swizzle", "wgmma: descriptors")
    ),
    *(
        f"wgmma: {what}, {operands}"
        for operands in (
            "K-major",
            "b transposed",
            "both transposed",
        )
        for what in ("operands and accumulators", "Accumulator")
    ),
)


def cute_include() -> Path:
    spec = find_spec("cutlass_library")
    if spec is None:
        pytest.skip("no CuTe headers: install nvidia-cutlass, see tests/oracles.txt")
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0]) / "source" / "include"


def test_layouts_are_those_of_cute(monkeypatch: pytest.MonkeyPatch) -> None:
    includes = [cute_include()]
    if toolkit := cuda_include():
        includes.append(toolkit / "cccl")  # where CUDA 13 keeps the headers of libcu++
    monkeypatch.setenv("CPLUS_INCLUDE_PATH", ":".join(map(str, includes)))
    program = build_program("plain", "hopper_layouts", [Path(__file__).parent / "hopper_layouts.cpp"])
    run = run_program(program)
    assert run.stdout.splitlines() == [f"same {name}" for name in COMPARED]
    assert run.returncode == 0

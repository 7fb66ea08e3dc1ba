"""The CUDA kernels on the emulator without Python in between: every order of threads, and every sanitizer.

tests/cuda_kernels/driver.cpp compares every launch with sums in double, over awkward shapes, and prints a checksum of
all outputs of each type.
"""

import re
from pathlib import Path

import pytest
from emulator_programs import ORDERS, build_program, run_program

from contrastive_ops.testing.emulator_builds import BUILDS, ROOT

PATHS = ("portable", "hopper")


def driver(build: str) -> Path:
    kernels = sorted((ROOT / "csrc" / "cuda").glob("*.cu"))
    return build_program(build, "cuda_kernels", [*kernels, ROOT / "tests" / "cuda_kernels" / "driver.cpp"])


def checksums(output: str) -> dict[str, str]:
    found = dict(re.findall(r"checksum of (\w+) (\w+)", output))
    assert found, output
    return found


@pytest.mark.parametrize("path", PATHS)
def test_every_order_gives_the_same_bits(path: str) -> None:
    """Types that are the same code with other conversions wait for nothing else: one order serves them."""
    runs = [run_program(driver("plain"), "every", path)]
    runs += [run_program(driver("plain"), "full", path, order=order, seed=1) for order in ORDERS[1:]]
    assert [run.returncode for run in runs] == [0] * len(ORDERS), [run.stdout for run in runs]
    first, *others = [checksums(run.stdout) for run in runs]
    assert len(first) == {"portable": 4, "hopper": 2}[path]
    assert all(found.items() <= first.items() for found in others)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("build", [build for build in BUILDS if build != "plain"])
def test_sanitizers_find_nothing(build: str, path: str) -> None:
    run = run_program(driver(build), "fast", path, order="random", seed=2)
    assert run.returncode == 0, run.stdout
    assert "Sanitizer" not in run.stdout and "runtime error" not in run.stdout, run.stdout


def test_shared_memory_has_no_bank_conflicts() -> None:
    """Of ldmatrix, which the portable path has; wgmma reads by itself."""
    run = run_program(driver("plain"), "fast", "portable", statistics=True)
    ways = [int(found) for found in re.findall(r"at most (\d+)", run.stdout)]
    assert run.returncode == 0 and max(ways) == 1, run.stdout

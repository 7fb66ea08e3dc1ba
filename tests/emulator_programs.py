"""Programs of CUDA C++ on the emulator, for one test each."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from contrastive_ops.testing.emulator_builds import BUILDS, build_from, reason_to_skip

ORDERS = ("forward", "reverse", "random")


def build_program(build: str, name: str, sources: Sequence[Path]) -> Path:
    """The program `name` of these sources (.cpp or .cu) and the emulator; skips the test where it can't be built."""
    if reason := reason_to_skip(build):
        pytest.skip(reason)
    return build_from(build, name, dict.fromkeys(sources, ()), BUILDS[build].flags)


def run_program(
    program: Path, *arguments: object, order: str = "forward", seed: int = 0, statistics: bool = False
) -> subprocess.CompletedProcess[str]:
    """Runs what build_program has made, stderr in stdout. `statistics`: of bank conflicts, a line per launch."""
    environment = {**os.environ, **BUILDS[program.parent.name].environment}
    environment |= {"CUDA_EMULATOR_ORDER": order, "CUDA_EMULATOR_SEED": str(seed)}
    if statistics:
        environment["CUDA_EMULATOR_STATS"] = "1"
    return subprocess.run(
        [program, *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=600,
        check=False,
    )

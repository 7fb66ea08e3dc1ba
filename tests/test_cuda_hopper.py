"""The emulator's barriers, TMA and wgmma: faults planted into a small pipelined product have to be caught."""

import re
from pathlib import Path

import pytest
from emulator_programs import build_program, run_program

from contrastive_ops.testing.emulator_builds import BUILDS

SCHEDULES = [("forward", 0), ("reverse", 0), *(("random", seed) for seed in range(4))]

# fault -> (build, what it says) where the build has to catch it, in one of the schedules
RACE = "ThreadSanitizer: data race"
WRONG = r"wrong: product\[\d+\]\[\d+\] is"
FAULTS = {
    "consumer skips the full barrier": {"plain": "mbarrier: more arrivals than its phase has", "thread": RACE},
    "producer skips the empty barrier": {"plain": "mbarrier: more arrivals than its phase has"},
    "wrong parity": {"plain": "deadlock: .* in barrier_wait"},
    "too few bytes expected": {"plain": "TMA: bytes arrive after their phase has ended"},
    "too many bytes expected": {"plain": "deadlock: .* in barrier_wait"},
    "too many arrivals": {"plain": "wgmma: an operand was written before", "thread": RACE},
    "stage released before its products are finished": {
        "plain": "wgmma: an operand was written before the product was waited for",
        "thread": RACE,
    },
    "accumulators read before the wait": {"plain": WRONG + " -?nan"},
    "accumulators written before the wait": {"plain": "wgmma: accumulators were written before"},
    "wrong step in depth": {"plain": WRONG},
    "descriptor without swizzle": {"plain": "wgmma: the emulator knows descriptors with the 128-byte swizzle only"},
    "warps of a warpgroup disagree": {"plain": "wgmma: the threads of a warpgroup disagree"},
    "no fence after the barriers' initialization": {"plain": "TMA: fence_barrier_init is missing"},
    "no sync after the barriers' initialization": {"plain": "mbarrier: not initialized", "thread": RACE},
    "no fence before the products": {"plain": "wgmma: no wgmma_fence"},
    "barrier overwritten": {"plain": "mbarrier: not initialized, or overwritten"},
    "box beyond the end of shared memory": {"plain": "TMA: .* bytes at offset .* are not inside an array"},
}


def build_faults(build: str) -> Path:
    return build_program(build, "hopper_faults", [Path(__file__).parent / "hopper_faults.cpp"])


@pytest.mark.parametrize(
    ("fault", "build", "report"),
    [(fault, build, report) for fault, reports in FAULTS.items() for build, report in reports.items()],
)
def test_fault_is_caught(fault: str, build: str, report: str) -> None:
    program = build_faults(build)
    output = ""
    for order, seed in SCHEDULES:
        run = run_program(program, fault, order=order, seed=seed)
        if run.returncode != 0 and re.search(report, run.stdout):
            return
        output += f"{order} {seed}: {run.stdout}\n"
    pytest.fail(f"no schedule shows the fault: {output}")


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize(("order", "seed"), SCHEDULES)
def test_right_product_passes(build: str, order: str, seed: int) -> None:
    run = run_program(build_faults(build), "none", order=order, seed=seed)
    assert run.returncode == 0 and run.stdout == "", run.stdout

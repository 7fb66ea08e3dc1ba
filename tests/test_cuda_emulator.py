"""The emulator that runs CUDA C++ on the CPU: faults planted into a small kernel have to be caught."""

import re
from pathlib import Path

import pytest
from emulator_programs import ORDERS, build_program, run_program

from contrastive_ops.testing.emulator_builds import BUILDS, EMULATOR

# what the builds say
DEADLOCK = r"deadlock: .*in "
RACE = r"SUMMARY: ThreadSanitizer: data race \S*(planted_bugs\.cu|sanitizers\.h)"  # of the kernel, not of the emulator
UNINITIALIZED = "MemorySanitizer: use-of-uninitialized-value"
WRONG = r"wrong: product\[\d+\]\[\d+\] is (-?nan|[-.e\d]+)"
OVERDRAFT = (
    r"exception: block \(0,0,0\) thread 0: the kernel takes 8704 bytes of shared memory, its launch declared 7936"
)
NOT_ALLOWED = "exception: launch with 61440 bytes of shared memory, of which 51200 are allowed"
WRONG_NAN = r"wrong: product\[\d+\]\[\d+\] is -?nan"
WRONG_SUM = r"wrong: the sum of row \d+ is -?nan"
# fault -> builds that have to catch it, in one of the orders, and what they say
FAULTS = {
    "no sync after the wait": {"plain": WRONG_NAN, "thread": RACE, "memory": UNINITIALIZED},
    "wait after the sync": {"plain": WRONG_NAN, "thread": RACE, "memory": UNINITIALIZED},
    "no wait": {"plain": WRONG_NAN, "memory": UNINITIALIZED},
    "buffer reused too early": {"plain": WRONG_NAN, "thread": RACE, "memory": UNINITIALIZED},
    "wrong step in depth": {"plain": WRONG},
    "no sync in the reduction": {"plain": WRONG_SUM, "thread": RACE, "memory": UNINITIALIZED},
    "shared element never written": {"plain": WRONG_SUM, "memory": UNINITIALIZED},
    "shared index out of bounds": {"thread": RACE, "address": "AddressSanitizer: use-after-poison"},
    "more shared memory than declared": dict.fromkeys(BUILDS, OVERDRAFT),
    "more shared memory than allowed": dict.fromkeys(BUILDS, NOT_ALLOWED),
    "global read out of bounds": {"address": "AddressSanitizer: heap-buffer-overflow"},
    "some threads skip a sync": {"plain": DEADLOCK + r"sync_block; thread 77 in ldmatrix; .* in sync_block"},
    "some lanes skip a shuffle": {"plain": DEADLOCK + r"shfl.sync; thread 9 in sync_block"},
    "lanes at different instructions": {"plain": r"thread \d+: this thread executes \w+\S* where others of its group"},
    "a named barrier waits for too many": {"plain": DEADLOCK + r"sync_named; threads 64-127 in sync_block"},
    "endless loop": {"plain": "livelock: .*in sync_warp"},
}


def build_planted_bugs(build: str) -> Path:
    return build_program(build, "planted_bugs", [EMULATOR / "planted_bugs.cu"])


@pytest.mark.parametrize(
    ("fault", "build", "report"),
    [(fault, build, report) for fault, reports in FAULTS.items() for build, report in reports.items()],
)
def test_fault_is_caught(fault: str, build: str, report: str) -> None:
    program = build_planted_bugs(build)
    output = ""
    for order in ORDERS:
        run = run_program(program, fault, order=order)
        if run.returncode != 0 and re.search(report, run.stdout):
            return
        output += f"{order}: {run.stdout}\n"
    pytest.fail(f"no order shows the fault: {output}")


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("order", ORDERS)
def test_right_kernel_passes(build: str, order: str) -> None:
    program = build_planted_bugs(build)
    for seed, size in enumerate([(70, 40, 136), (1, 1, 8), (64, 32, 64)]):
        run = run_program(program, "none", *size, order=order, seed=seed)
        assert run.returncode == 0 and run.stdout == "", (size, run.stdout)


@pytest.mark.parametrize(("fault", "ways"), [("none", 1), ("bank conflicts", 4)])
def test_bank_conflicts_are_counted(fault: str, ways: int) -> None:
    run = run_program(build_planted_bugs("plain"), fault, statistics=True)
    assert run.returncode == 0, run.stdout
    match = re.fullmatch(r"ldmatrix: (\d+) calls, (\d+) reads, at most (\d+) ways\n", run.stdout)
    assert match, run.stdout
    calls, reads, most = map(int, match.groups())
    assert calls == 9 * 4 * 5 * 3  # blocks, warps, steps in depth, loads of each
    assert reads == 4 * calls * ways and most == ways

"""Alternated samples in one process: every round takes one sample of every job, each beside its own FMA peak."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench.cpu.contestants import Step
from bench.cpu.peak import PeakMeter

SAMPLE_SECONDS = 0.05  # fast steps are repeated to fill this; the sample is then their median


@dataclass
class Job:
    """One thing to time. `restart` runs before each step, outside the clock."""

    name: str
    mode: str
    step: Step
    restart: Callable[[], None]
    is_warm: bool = False  # the caller has run it before, and it is slow enough for a sample of one step
    repeats: bool = False  # an untimed step precedes every sample, as the step before it does in training
    seconds: list[float] = field(default_factory=list)  # one per round
    peaks: list[float] = field(default_factory=list)  # GFLOP/s beside each sample; empty without a meter

    def time_once(self) -> float:
        self.restart()
        start = time.perf_counter()
        self.step()
        return time.perf_counter() - start

    def sample(self, calls: int) -> float:
        if self.repeats:
            self.time_once()
        return statistics.median(self.time_once() for _ in range(calls))

    def warm_up(self) -> float:
        """About the seconds of a step; the first pays for compilation, caches and page faults that no later one has."""
        if self.is_warm:
            return SAMPLE_SECONDS
        self.time_once()
        return self.time_once()

    @property
    def median_seconds(self) -> float:
        return statistics.median(self.seconds)


def alternate(
    jobs: Sequence[Job],
    *,
    rounds: int,
    least_rounds: int,
    budget_seconds: float,
    peak_meter: PeakMeter | None,
    progress: Callable[[str], None] = lambda text: None,
) -> None:
    """Fill the samples of all jobs: `rounds` of them, or fewer (not below `least_rounds`) once the budget is spent."""
    calls = {id(job): max(1, math.ceil(SAMPLE_SECONDS / job.warm_up())) for job in jobs}
    start = time.perf_counter()
    for done in range(rounds):
        if done >= least_rounds and time.perf_counter() - start > budget_seconds:
            return
        # rotated, so that nobody always follows the same neighbour
        shift = done % len(jobs)
        for job in (*jobs[shift:], *jobs[:shift]):
            progress(f"round {done + 1}/{rounds}: {job.name} {job.mode}")
            job.seconds.append(job.sample(calls[id(job)]))
            if peak_meter is not None:
                job.peaks.append(peak_meter())
            job.restart()  # nobody else's samples carry these gradients

"""All contestants on one shape: left out where they would not fit, checked against the truth, then timed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from statistics import median

import torch

from bench.clip_truth import clip_truth
from bench.cpu.contestants import FORWARD, MODES, TRAINING, Contestant, Inputs, clip_contestants
from bench.cpu.memory import added_peak
from bench.cpu.peak import PeakMeter
from bench.cpu.timing import Job, alternate
from bench.cpu.truth import refuse_wrong
from bench.machine import available_memory
from bench.shapes import Shape
from contrastive_ops.testing.memory import can_measure

MEMORY_LIMIT = 8 << 30  # no contestant may need more than this
SLOW_FROM_N = 8192  # a step takes longer than a sample must
MEMORY_FROM_N = 4096  # below this, allocator slack is as large as what is measured


@dataclass(frozen=True)
class Settings:
    """How much to measure."""

    threads: int
    rounds: int = 9
    least_rounds: int = 3
    budget_seconds: float = 40.0  # of samples per shape; rounds stop there, but not before `least_rounds`
    backend: str | None = None  # of ours; None: automatic
    only_contestants: tuple[str, ...] = ()  # empty: all
    modes: tuple[str, ...] = MODES
    peak_meter: PeakMeter | None = None
    memory: bool = True
    memory_from_n: int = MEMORY_FROM_N
    progress: Callable[[str], None] = field(default=lambda text: None)

    def contestants(self) -> list[Contestant]:
        known = clip_contestants(self.backend)
        unknown = set(self.only_contestants) - set(known)
        if unknown:
            raise ValueError(f"contestants are {', '.join(known)}, got {', '.join(sorted(unknown))}")
        return [c for name, c in known.items() if not self.only_contestants or name in self.only_contestants]


@dataclass
class Row:
    """One contestant on one shape in one mode."""

    shape: Shape
    contestant: Contestant
    mode: str
    samples: list[float]  # seconds, one per round
    peaks: list[float]  # GFLOP/s, one beside each sample
    added_bytes: int | None = None  # peak memory of one training step, gradients included

    @property
    def seconds(self) -> float:
        return median(self.samples)

    @property
    def gflops(self) -> float:
        """Effective rate: the same count for everyone, three products (one in forward), whatever is really done."""
        products = 3 if self.mode == TRAINING else 1
        return products * 2 * self.shape.n**2 * self.shape.d / self.seconds * 1e-9

    @property
    def share(self) -> float | None:
        """Of the FMA peak; None without a meter."""
        return self.gflops / median(self.peaks) if self.peaks else None


@dataclass
class ShapeResult:
    """Everything measured on one shape."""

    shape: Shape
    rows: list[Row]
    left_out: dict[str, str]  # contestant: reason

    def row(self, contestant: str, mode: str) -> Row | None:
        return next((r for r in self.rows if r.contestant.name == contestant and r.mode == mode), None)

    @cached_property
    def peaks(self) -> list[float]:
        return [peak for row in self.rows for peak in row.peaks]

    @property
    def peak_spread(self) -> float | None:
        """(90th - 10th percentile) / median of the peak samples: how noisy the machine was."""
        if len(self.peaks) < 2:
            return None
        low, middle, high = torch.tensor(self.peaks).quantile(torch.tensor([0.1, 0.5, 0.9])).tolist()
        return float((high - low) / middle)


def run_shape(shape: Shape, settings: Settings) -> ShapeResult:
    """Check and time all contestants, then measure their memory."""
    torch._dynamo.reset()  # the compiler gives up on a function after a few shapes
    limit = min(MEMORY_LIMIT, int(0.7 * available_memory()))
    present, left_out = [], {}
    for contestant in settings.contestants():
        needs = contestant.peak_bytes(shape)
        if needs > limit:
            left_out[contestant.name] = f"needs about {needs / 2**30:.1f} GiB, allowed are {limit / 2**30:.1f}"
        else:
            present.append(contestant)

    inputs = Inputs.make(shape)
    settings.progress("float64 truth")
    truth = clip_truth(inputs.x, inputs.y, inputs.scale)
    for contestant in present:
        if contestant.make_loss is not None:
            settings.progress(f"checking {contestant.name}")
            refuse_wrong(f"{contestant.name} at {shape}", contestant.make_loss(), inputs, truth)
    del truth

    pairs = [(c, mode) for mode in settings.modes for c in present if mode in c.modes]
    jobs = [
        Job(
            contestant.name,
            mode,
            contestant.make_step(inputs, mode),
            inputs.restart,
            # the check ran a training step of every loss; where steps take seconds that was warm-up enough
            is_warm=contestant.is_loss and mode == TRAINING and shape.n >= SLOW_FROM_N,
            # a trainer repeats one step, and our workspace waits for it; here another budget would take its place
            repeats=contestant.ours,
        )
        for contestant, mode in pairs
    ]
    settings.progress("warming up")
    alternate(
        jobs,
        rounds=settings.rounds,
        least_rounds=settings.least_rounds,
        budget_seconds=settings.budget_seconds,
        peak_meter=settings.peak_meter,
        progress=settings.progress,
    )
    rows = [Row(shape, c, mode, job.seconds, job.peaks) for (c, mode), job in zip(pairs, jobs, strict=True)]
    result = ShapeResult(shape, rows, left_out)
    del jobs, inputs
    if settings.memory and can_measure() and shape.n >= settings.memory_from_n:
        _measure_memory(result, settings)
    return result


def _measure_memory(result: ShapeResult, settings: Settings) -> None:
    for row in result.rows:
        if row.mode == TRAINING and row.contestant.is_loss:
            settings.progress(f"memory of {row.contestant.name}")
            row.added_bytes = added_peak(
                row.contestant.name, result.shape, backend=settings.backend, threads=settings.threads
            ).bytes


def losses_of_ours(results: Iterable[ShapeResult]) -> list[str]:
    """Plain sentences: every comparison in which another loss is faster or smaller than ours at its default budget."""
    found = []
    for result in results:
        for mode in (FORWARD, TRAINING):
            ours = result.row("ours", mode)
            if ours is None:
                continue
            for row in result.rows:
                if row.mode != mode or row.contestant.ours or not row.contestant.is_loss:
                    continue
                place = f"{result.shape} {mode}: {row.contestant.label}"
                if row.seconds < ours.seconds:
                    found.append(f"{place} is {ours.seconds / row.seconds:.2f}x faster than ours")
                if row.added_bytes is not None and ours.added_bytes is not None and row.added_bytes < ours.added_bytes:
                    found.append(
                        f"{place} adds {row.added_bytes / 2**20:.0f} MiB, ours {ours.added_bytes / 2**20:.0f} MiB"
                    )
    return found


def times_over_products(results: Iterable[ShapeResult]) -> list[str]:
    """Our time in units of the bare products, which are no loss but what any dense one must at least do."""
    found = []
    for result in results:
        ours, products = result.row("ours", TRAINING), result.row("products_out", TRAINING)
        if ours is not None and products is not None:
            found.append(f"{result.shape} {ours.seconds / products.seconds:.2f}x")
    return found

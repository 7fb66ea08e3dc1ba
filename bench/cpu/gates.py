"""What the library promises about speed, memory and accuracy, and whether this machine sees it kept.

The promises are for two AVX2 cores and two threads; elsewhere they are a comparison, not a verdict.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from rich.console import Console
from rich.table import Table

from bench.clip_truth import clip_truth
from bench.cpu.contestants import BUDGETS, MIB, TRAINING
from bench.cpu.memory import added_peak
from bench.cpu.report import NOISY_SPREAD
from bench.cpu.self_similarity import time_self_similarity
from bench.cpu.suite import Settings, ShapeResult, run_shape
from bench.shapes import Shape
from contrastive_ops import clip_loss
from contrastive_ops.testing import dense_clip_loss, make_confident_pairs, make_pairs, norm_error, worst_row_error
from contrastive_ops.testing.memory import can_measure


class SpeedGate(NamedTuple):
    """`ours` on a shape: at least `least` of the FMA peak, or at least `least` times as fast as `against`."""

    shape: str
    ours: str
    least: float
    against: str = "peak"


class MemoryGate(NamedTuple):
    """Added peak of one training step: gradients + `inputs` x inputs + `fixed` bytes."""

    shape: str
    ours: str
    inputs: float
    fixed: int


# --- every promised number -----------------------------------------------------------------------------------------

SPEED_GATES = (
    SpeedGate("256x512", "ours", 1.4, "dense"),
    SpeedGate("256x512", "ours", 1.4, "compile"),
    SpeedGate("1024x512", "ours", 0.60),
    SpeedGate("1024x512", "ours", 1.25, "compile"),
    SpeedGate("4096x512", "ours", 1.0, "products_out"),
    SpeedGate("4096x512", "ours", 0.70),
    SpeedGate("4096x512", "ours", 1.5, "compile"),
    SpeedGate("8192x512", "ours", 0.58),
    SpeedGate("8192x512", "ours", 1.2, "compile"),
    SpeedGate("8192x512", "ours_512", 0.72),
    SpeedGate("8192x512", "ours_512", 1.5, "compile"),
    SpeedGate("16384x128", "ours", 6.0, "dense"),
    SpeedGate("16384x128", "ours", 2.5, "compile"),
)
SELF_SIMILARITY_VIEWS, SELF_SIMILARITY_D, SELF_SIMILARITY_SPEEDUP = 8192, 256, 1.8

# what O(M + N) stands for: statistics, their gradients, positives and partial sums of a row or column, and what does
# not grow at all (scratch tiles of the threads, allocator slack)
BYTES_PER_LINE, CONSTANT_BYTES = 64, 4 * MIB
MEMORY_GATES = (
    MemoryGate("8192x512", "ours", 0.0, 128 * MIB),
    MemoryGate("32768x128", "ours", 0.0, 128 * MIB),
    *(
        MemoryGate(shape, ours, 1.5, budget + CONSTANT_BYTES + BYTES_PER_LINE * 2 * Shape.parse(shape).n)
        for shape in ("8192x512", "32768x128")
        for ours, budget in BUDGETS.items()
    ),
)
MUST_RUN = "131072x64"

CONFIDENT_SCALE, CONFIDENT_WORST_ROW = 100.0, 1e-4
EXTREME_SCALES = (1000.0,)  # also temperature 1e-3
EXTREME_EXTRA_ERROR = 1e-6  # over the error of the dense loss in the same dtype


class Outcome(NamedTuple):
    what: str
    promised: str
    measured: str
    met: bool | None  # None: could not be measured
    note: str = ""


Part = Literal["speed", "memory", "accuracy"]
PARTS: tuple[Part, ...] = ("speed", "memory", "accuracy")


def check_gates(settings: Settings, parts: tuple[Part, ...] = PARTS) -> Iterator[Outcome]:
    """Every promise in turn."""
    if "accuracy" in parts:
        yield from _accuracy(settings)
    if "speed" in parts:
        yield from _speed(settings)
        yield _self_similarity(settings)
    if "memory" in parts:
        yield from _memory(settings)


def print_outcomes(console: Console, outcomes: list[Outcome]) -> bool:
    """The table; True if nothing was missed."""
    table = Table(title="Promised and measured", title_justify="left")
    for heading in ("what", "promised", "measured", "", "note"):
        table.add_column(heading)
    verdicts = {
        True: "[green]met[/green]",
        False: "[bold red]NOT MET[/bold red]",
        None: "[yellow]not measured[/yellow]",
    }
    for outcome in outcomes:
        table.add_row(outcome.what, outcome.promised, outcome.measured, verdicts[outcome.met], outcome.note)
    console.print(table)
    missed = sum(outcome.met is False for outcome in outcomes)
    unknown = sum(outcome.met is None for outcome in outcomes)
    console.print(f"{len(outcomes) - missed - unknown} met, {missed} not met, {unknown} not measured")
    return not missed


def _speed(settings: Settings) -> Iterator[Outcome]:
    for shape, group in itertools.groupby(SPEED_GATES, key=lambda gate: gate.shape):
        gates = list(group)
        names = {gate.ours for gate in gates} | {gate.against for gate in gates} - {"peak"}
        narrowed = dataclasses.replace(settings, only_contestants=tuple(sorted(names)), modes=(TRAINING,), memory=False)
        result = run_shape(Shape.parse(shape), narrowed)
        for gate in gates:
            yield _speed_outcome(gate, result)


def _speed_outcome(gate: SpeedGate, result: ShapeResult) -> Outcome:
    budget = f"{BUDGETS[gate.ours] // MIB} MiB"
    row = result.row(gate.ours, TRAINING)
    assert row is not None
    note = f"{len(row.samples)} rounds"
    if result.peak_spread is not None:
        note += f", peak {sorted(result.peaks)[len(result.peaks) // 2]:.0f} GFLOP/s +-{result.peak_spread / 2:.0%}"
        note += " (noisy: suspect)" if result.peak_spread > NOISY_SPREAD else ""
    what = f"clip_loss {gate.shape}, {budget}: "
    if gate.against == "peak":
        measured = None if row.share is None else f"{row.share:.2f} ({row.gflops:.0f} GFLOP/s)"
        met = None if row.share is None else row.share >= gate.least
        return Outcome(what + "share of the peak", f">= {gate.least:.2f}", measured or "-", met, note)
    other = result.row(gate.against, TRAINING)
    if other is None:
        reason = result.left_out.get(gate.against, "not offered by this torch")
        return Outcome(what + f"speed over {gate.against}", f">= {gate.least:.2f}x", "-", None, reason)
    speedup = other.seconds / row.seconds
    return Outcome(
        what + f"speed over {other.contestant.label}",
        f">= {gate.least:.2f}x",
        f"{speedup:.2f}x ({row.seconds:.4g} s against {other.seconds:.4g} s)",
        speedup >= gate.least,
        note,
    )


def _self_similarity(settings: Settings) -> Outcome:
    fast, slow = time_self_similarity(SELF_SIMILARITY_VIEWS, SELF_SIMILARITY_D, settings)
    speedup = slow.median_seconds / fast.median_seconds
    return Outcome(
        f"nt_xent 2N={SELF_SIMILARITY_VIEWS}, D={SELF_SIMILARITY_D}: speed over no shortcut",
        f">= {SELF_SIMILARITY_SPEEDUP:.2f}x",
        f"{speedup:.2f}x ({fast.median_seconds:.4g} s against {slow.median_seconds:.4g} s)",
        speedup >= SELF_SIMILARITY_SPEEDUP,
        f"{len(fast.seconds)} rounds",
    )


def _memory(settings: Settings) -> Iterator[Outcome]:
    if not can_measure():
        yield Outcome("added peak memory", "-", "-", None, "this system cannot reset the peak of a process")
        return
    measured: dict[tuple[str, str], int] = {}
    for gate in MEMORY_GATES:
        shape = Shape.parse(gate.shape)
        key = (gate.ours, gate.shape)
        if key not in measured:
            settings.progress(f"memory of {gate.ours} at {shape}")
            measured[key] = added_peak(gate.ours, shape, backend=settings.backend, threads=settings.threads).bytes
        allowed = shape.inputs_bytes * (1 + gate.inputs) + gate.fixed
        terms = f"gradients + {gate.inputs:g} x inputs + {gate.fixed / MIB:g} MiB"
        yield Outcome(
            f"clip_loss {shape}, {BUDGETS[gate.ours] // MIB} MiB: added peak memory",
            f"<= {allowed / MIB:.0f} MiB",
            f"{measured[key] / MIB:.0f} MiB",
            measured[key] <= allowed,
            terms.replace("0 x inputs + ", "") if not gate.inputs else terms,
        )
    settings.progress(f"one step at {MUST_RUN}")
    try:
        step = added_peak("ours", Shape.parse(MUST_RUN), backend=settings.backend, threads=settings.threads)
    except RuntimeError as error:
        yield Outcome(f"clip_loss {MUST_RUN}", "runs", "failed", False, str(error))
    else:
        yield Outcome(f"clip_loss {MUST_RUN}", "runs", f"{step.seconds:.0f} s, {step.bytes / MIB:.0f} MiB added", True)


def _accuracy(settings: Settings) -> Iterator[Outcome]:
    for dtype in (torch.float32, torch.bfloat16):
        x, y = make_confident_pairs(600, 512, dtype)
        ours, dense = _worst_rows(x, y, settings.backend)
        # bfloat16 gradients are rounded once to 8 bits: half a unit per entry, which bounds every row as well
        allowed = CONFIDENT_WORST_ROW if dtype == torch.float32 else CONFIDENT_WORST_ROW + 2.0**-8
        yield Outcome(
            f"clip_loss, confident pairs, scale {CONFIDENT_SCALE:g}, {str(dtype).removeprefix('torch.')}: worst row",
            f"<= {allowed:.1e}",
            f"{ours:.1e} (dense {dense:.1e})",
            ours <= allowed,
        )
    # every image beside another's text: matching pairs would have losses below the smallest float32 at this scale
    x, y = make_pairs(600, 512)
    y = y.roll(1, 0)
    for scale in EXTREME_SCALES:
        factor = torch.tensor(scale)
        truth = clip_truth(x, y, factor)
        got = _gradients(x, y, scale, settings.backend)
        usual = _gradients(x, y, scale, None, dense=True)
        errors = [norm_error(a, b) for a, b in zip(got, truth[:3], strict=True)]
        bounds = [norm_error(a, b) + EXTREME_EXTRA_ERROR for a, b in zip(usual, truth[:3], strict=True)]
        finite = all(bool(value.isfinite().all()) for value in got)
        yield Outcome(
            f"clip_loss, mismatched pairs, scale {scale:g} (temperature {1 / scale:g}): value, dx, dy finite and right",
            "<= " + ", ".join(f"{bound:.1e}" for bound in bounds),
            ", ".join(f"{error:.1e}" for error in errors),
            finite and all(error <= bound for error, bound in zip(errors, bounds, strict=True)),
            "promised: the error of the dense loss + 1e-6",
        )


def _worst_rows(x: torch.Tensor, y: torch.Tensor, backend: str | None) -> tuple[float, float]:
    """Worst-row relative gradient error of ours and of the dense loss."""
    truth = clip_truth(x, y, torch.tensor(CONFIDENT_SCALE))
    worst = []
    for dense in (False, True):
        _, dx, dy = _gradients(x, y, CONFIDENT_SCALE, backend, dense=dense)
        worst.append(max(worst_row_error(dx, truth.dx), worst_row_error(dy, truth.dy)))
    return worst[0], worst[1]


def _gradients(
    x: torch.Tensor, y: torch.Tensor, scale: float, backend: str | None, *, dense: bool = False
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    x, y = (value.detach().requires_grad_() for value in (x, y))
    loss = dense_clip_loss(x, y, scale) if dense else clip_loss(x, y, scale, backend=backend)
    dx, dy = torch.autograd.grad(loss, (x, y))
    return loss.detach(), dx, dy

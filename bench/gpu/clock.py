"""Time and memory of a step on the device."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

SAMPLES = 7
SAMPLE_MILLISECONDS = 30.0  # fast steps are repeated to fill this
SLOW_MILLISECONDS = 300.0  # of a step: fewer samples
WARM_UP = 2

Step = Callable[[], object]


def milliseconds(step: Step, device: torch.device) -> float:
    """Median time of a step on the GPU's own clock; the first steps compile and warm up."""
    if device.type == "cpu":
        return _processor_milliseconds(step)
    for _ in range(WARM_UP):
        step()
    once = _timed(step, 1)
    calls = max(1, round(SAMPLE_MILLISECONDS / max(once, 1e-3)))
    return statistics.median(_timed(step, calls) for _ in range(SAMPLES if once < SLOW_MILLISECONDS else 3))


def host_milliseconds(step: Step, device: torch.device) -> float:
    """Median time until a step is on the stream; the GPU may need longer."""
    found = []
    for _ in range(SAMPLES):
        torch.cuda.synchronize(device)
        before = time.perf_counter()
        step()
        found.append((time.perf_counter() - before) * 1e3)
    return statistics.median(found)


def peak_mib(step: Step, device: torch.device) -> float:
    """What a step adds at its peak to what is allocated before it."""
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    step()
    return float(torch.cuda.max_memory_allocated(device) - before) / 2**20


def _timed(step: Step, calls: int) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(calls):
        step()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / calls


def _processor_milliseconds(step: Step) -> float:
    """Of one step, to try the tools without a GPU."""
    before = time.perf_counter()
    step()
    return (time.perf_counter() - before) * 1e3

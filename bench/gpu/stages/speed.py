"""Time and memory of a training step of clip_loss, contestant by contestant, each checked first."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from bench.gpu import clock
from bench.gpu.case import Case, Row, Setting, Skipped
from bench.gpu.clip_step import ClipStep
from bench.gpu.contestants import CONTESTANTS, Contestant
from bench.gpu.graph import capture
from bench.gpu.machine import refusals
from bench.predict.gpus import gpu_of_device
from bench.predict.prediction import predict

AGREEMENT = 0.02  # relative; who is further off computes something else
REHEARSED = ((70, 24),)


def cases(
    setting: Setting, contestants: list[str], sizes: list[tuple[int, int]], dtypes: tuple[str, ...] = ("bfloat16",)
) -> list[Case]:
    """Every contestant at every size. `ours` are timed in every way, the others as a step."""
    return [
        Case(
            {"what": "clip_loss", "n": n, "d": d, "dtype": dtype, "contestant": name},
            partial(_measure, setting, CONTESTANTS[name], n, d, dtype),
        )
        for dtype in dtypes
        for n, d in setting.choose(sizes, REHEARSED)
        for name in contestants
    ]


def _measure(setting: Setting, contestant: Contestant, n: int, d: int, dtype: str) -> Row:
    device = setting.device
    if contestant.backend and (reasons := refusals(contestant.backend, device)):
        raise Skipped("; ".join(reasons))
    _skip_what_cannot_fit(setting, contestant, n, getattr(torch, dtype).itemsize)
    try:
        loss = contestant.make()
    except (ImportError, AttributeError) as error:
        raise Skipped(f"not installed: {error}") from error
    step = ClipStep(loss, n, d, getattr(torch, dtype), device)
    if contestant.backend is None:
        return _time_other(setting, contestant, step)
    row = step.judge(contestant.backend) | _time(setting, step)
    if contestant.backend in ("cuda", "triton"):
        row |= _graph(setting, step)
        row["forward_ms"] = clock.milliseconds(step.forward, device)
        if setting.on_gpu:
            row["host_ms"] = clock.host_milliseconds(step, device)
    if contestant.backend == "triton" and setting.on_gpu:
        row |= _prediction(device, n, d, dtype)
    return row


def _time_other(setting: Setting, contestant: Contestant, step: ClipStep) -> Row:
    try:
        row = _agreement(step, contestant) | _time(setting, step)
    except torch.cuda.OutOfMemoryError:
        raise Skipped("out of memory") from None
    return row | ({"note": contestant.note} if contestant.note else {})


def _time(setting: Setting, step: ClipStep) -> Row:
    (n, d), device = step.sizes, setting.device
    time = clock.milliseconds(step, device)
    row = {"step_ms": time, "three_products_tflop_per_s": 6.0 * n * n * d / time / 1e9}
    return row | ({"peak_mib": clock.peak_mib(step, device)} if setting.on_gpu else {})


def _agreement(step: ClipStep, contestant: Contestant) -> Row:
    """Others may be as far off as their dtype makes them, but must compute this loss."""
    if not contestant.same_loss:
        return {}
    error = step.error_of_loss()
    return {"error_loss": error, "computes": "this loss" if error <= AGREEMENT else "ANOTHER LOSS"}


def _graph(setting: Setting, step: ClipStep) -> Row:
    """The step replayed: its difference to the plain one is the host. Where it can't be captured, why."""
    if not setting.on_gpu:
        return {"graph": "needs a GPU"}
    try:
        graph, _ = capture(step, setting.device)
        return {"graph_ms": clock.milliseconds(graph.replay, setting.device)}
    except Exception as error:
        return {"graph": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:150]}"}


def _skip_what_cannot_fit(setting: Setting, contestant: Contestant, n: int, itemsize: int) -> None:
    if not setting.on_gpu:
        return
    free, _ = torch.cuda.mem_get_info(setting.device)
    needed = contestant.stored_scores * n * n * itemsize
    if needed > 0.9 * free:
        raise Skipped(f"about {needed / 2**30:.0f} GiB of scores, {free / 2**30:.0f} GiB free")


def _prediction(device: torch.device, n: int, d: int, dtype: str) -> dict[str, Any]:
    """By the roofline, for the GPUs that it lists."""
    gpu = gpu_of_device(torch.cuda.get_device_name(device))
    if gpu is None:
        return {}
    found = predict("clip", gpu, n, d, dtype)
    return {
        "predicted_ms": found.seconds * 1e3,
        "predicted_without_overlap_ms": found.seconds_without_overlap * 1e3,
    }

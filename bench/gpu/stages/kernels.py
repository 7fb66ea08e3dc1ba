"""Where the time of a step goes, kernel by kernel, as the profiler of PyTorch sees it."""

from __future__ import annotations

from functools import partial

import torch
from torch.profiler import ProfilerActivity, profile

from bench.gpu.case import Case, Row, Setting, Skipped
from bench.gpu.clip_step import ClipStep
from bench.gpu.contestants import CONTESTANTS
from bench.gpu.machine import refusals

SIZES = ((65536, 768), (65536, 512), (4096, 512), (16384, 1024))
MOST_KERNELS = 10
NAME_LENGTH = 80  # templates are long, and begin alike


def cases(setting: Setting) -> list[Case]:
    return [
        Case(
            {"what": "kernels of clip_loss", "n": n, "d": d, "backend": backend},
            partial(_kernels, setting, backend, n, d),
        )
        for n, d in SIZES
        for backend in ("cuda", "triton")
    ]


def _kernels(setting: Setting, backend: str, n: int, d: int) -> list[Row]:
    """A row for all, and one for each of those that take longest."""
    setting.needs_gpu()
    if reasons := refusals(backend, setting.device):
        raise Skipped("; ".join(reasons))
    step = ClipStep(CONTESTANTS[f"ours, {backend}"].make(), n, d, torch.bfloat16, setting.device)
    for _ in range(2):
        step()
    torch.cuda.synchronize(setting.device)
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        step()
        torch.cuda.synchronize(setting.device)
    kernels = [event for event in profiled.key_averages() if event.device_time_total > 0]
    kernels.sort(key=lambda event: -event.device_time_total)
    total = sum(event.device_time_total for event in kernels)
    if not kernels:
        raise Skipped("the profiler saw no kernel")
    launches = sum(event.count for event in kernels)
    everything = {"kernel": "all", "launches": launches, "all_ms": total / 1e3, "one_us": total / launches}
    return [everything] + [
        {
            "kernel": event.key.replace("contrastive_ops::cuda::", "")[:NAME_LENGTH],
            "launches": event.count,
            "all_ms": event.device_time_total / 1e3,
            "one_us": event.device_time_total / event.count,
            "share_of_kernels": event.device_time_total / total,
        }
        for event in kernels[:MOST_KERNELS]
    ]

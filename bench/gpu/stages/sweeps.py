"""What the design chose without a GPU, beside what else it could have chosen: macro-blocks, kept products, levels."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from unittest import mock

import torch

from bench.gpu.case import Case, Row, Setting, Skipped
from bench.gpu.clip_step import ClipStep
from bench.gpu.clock import milliseconds, peak_mib
from bench.gpu.graph import capture
from bench.gpu.machine import refusals
from bench.predict.candidates import two_levels
from contrastive_ops import clip_loss
from contrastive_ops.backends.gpu import macro
from contrastive_ops.backends.gpu.gpu_size import gpu_size
from contrastive_ops.problem import DEFAULT_WORKSPACE_BYTES

MIB = 1 << 20
BACKENDS = ("cuda", "triton")
MACRO_MIB = (8, 16, 25, 40, 64, 128)
REHEARSED_MIB = (1 / 32, 1 / 16)
KEPT_MIB = (0, 64, 1024, 20_000)


def cases(setting: Setting) -> list[Case]:
    n, d = setting.choose((32768, 768), (150, 24))
    blocks = [
        Case(
            {"what": "macro-blocks", "n": n, "d": d, "backend": backend, "macro_mib": mib},
            partial(_macro_blocks, setting, backend, n, d, int(mib * MIB)),
        )
        for mib in setting.choose(MACRO_MIB, REHEARSED_MIB)
        for backend in BACKENDS
    ]
    levels = [
        Case(
            {"what": "levels", "n": at, "d": width, "backend": "triton", "levels": count},
            partial(_levels, setting, at, width, count),
        )
        for at, width in setting.choose(((32768, 512), (4096, 512), (32768, 256)), ((70, 24),))
        for count in (1, 2)
    ]
    kept = [
        Case(
            {"what": "kept products", "n": at, "d": d, "backend": backend, "workspace_mib": mib},
            partial(_time, setting, backend, at, d, mib * MIB),
        )
        for at in setting.choose((16384, 65536), (70,))
        for mib in KEPT_MIB
        for backend in BACKENDS
    ]
    return blocks + levels + kept


def _macro_blocks(setting: Setting, backend: str, n: int, d: int, macro_bytes: int) -> Row:
    size = gpu_size(setting.device)._replace(macro_bytes=macro_bytes)
    with mock.patch.object(macro, "gpu_size", lambda device: size):
        return _time(setting, backend, n, d)


def _levels(setting: Setting, n: int, d: int, count: int) -> Row:
    changed: AbstractContextManager[object] = two_levels() if count == 2 else nullcontext()
    with changed:
        return _time(setting, "triton", n, d)


def _time(setting: Setting, backend: str, n: int, d: int, workspace_bytes: int = DEFAULT_WORKSPACE_BYTES) -> Row:
    """Checked, as a step and as a graph."""
    if reasons := refusals(backend, setting.device):
        raise Skipped("; ".join(reasons))
    step = ClipStep(
        lambda x, y, scale: clip_loss(x, y, scale, backend=backend, workspace_bytes=workspace_bytes),
        n,
        d,
        torch.bfloat16,
        setting.device,
    )
    row = step.judge(backend) | {"step_ms": milliseconds(step, setting.device)}
    if setting.on_gpu:
        row["peak_mib"] = peak_mib(step, setting.device)
        graph, _ = capture(step, setting.device)
        row["graph_ms"] = milliseconds(graph.replay, setting.device)
    return row

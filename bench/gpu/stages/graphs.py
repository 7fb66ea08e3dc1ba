"""A training step in a CUDA graph, replayed on other numbers, has the bits of a plain one."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from bench.gpu.case import Case, Row, Setting, Skipped
from bench.gpu.graph import capture
from bench.gpu.journal import OK, WRONG
from bench.gpu.machine import refusals
from contrastive_ops import clip_loss
from contrastive_ops.testing import make_pairs

N, D = 512, 128


def cases(setting: Setting) -> list[Case]:
    return [
        Case({"what": "graph of clip_loss", "n": N, "d": D, "backend": backend}, partial(_replay, setting, backend))
        for backend in ("cuda", "triton")
    ]


def _replay(setting: Setting, backend: str) -> Row:
    setting.needs_gpu()
    device = setting.device
    if reasons := refusals(backend, device):
        raise Skipped("; ".join(reasons))
    batches = [[x.to(device) for x in make_pairs(N, D, torch.bfloat16, seed)] for seed in (0, 1)]
    x, y = (value.clone().requires_grad_() for value in batches[0])
    scale = torch.tensor(14.25, device=device, requires_grad=True)

    def step() -> list[Tensor | None]:
        x.grad = y.grad = scale.grad = None
        loss = clip_loss(x, y, scale, backend=backend)
        loss.backward()
        return [loss.detach(), x.grad, y.grad, scale.grad]

    graph, results = capture(step, device)
    with torch.no_grad():
        x.copy_(batches[1][0]), y.copy_(batches[1][1])
    graph.replay()
    found = [None if result is None else result.clone() for result in results]
    expected = step()
    same = all(a is not None and b is not None and torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    return {"same_bits_as_a_plain_step": same, "verdict": OK if same else WRONG}

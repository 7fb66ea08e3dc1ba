"""What a step adds to the peak memory of a rank."""

from __future__ import annotations

import re

import torch
import torch.distributed as dist

from contrastive_ops import distributed
from contrastive_ops.testing import make_pairs

LINES, EMBEDDING = 256, 2048
FEATURES_BYTES = LINES * EMBEDDING * 4


def _status(name: str) -> int:
    with open("/proc/self/status") as lines:
        found = re.search(name + r":\s+(\d+) kB", lines.read())
    assert found is not None
    return int(found[1]) * 1024


def run(rank: int, world: int) -> dict[str, int]:
    """Bytes by strategy, gradients of both towers included."""
    added = {}
    for strategy in ("ring", "gather"):
        for lines in (64, LINES):  # the first loads libraries and connects
            images, texts = (x.requires_grad_() for x in make_pairs(lines, EMBEDDING, seed=rank))
            dist.barrier()
            before = _status("VmRSS")
            with open("/proc/self/clear_refs", "w") as control:
                control.write("5")  # resets VmHWM
            distributed.clip_loss(images, texts, 20.0, strategy=strategy, workspace_bytes=0).backward()
            added[strategy] = _status("VmHWM") - before
            assert isinstance(images.grad, torch.Tensor)
    return added

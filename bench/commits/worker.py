"""Times training steps of `clip_loss` as one source tree has it: `python worker.py TREE`.

A line of its input asks, `N D calls`, and a line of its output answers: the seconds of a step, the median of so many.
It imports nothing of this package, so that it runs beside a library of any age.
"""

from __future__ import annotations

import functools
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import torch
import torch.nn.functional as F


def main() -> None:
    tree = Path(sys.argv[1]).resolve()
    sys.path.insert(0, str(tree))
    import contrastive_ops

    if tree not in Path(contrastive_ops.__file__).resolve().parents:
        raise SystemExit(f"expected the contrastive_ops of {tree}, got {contrastive_ops.__file__}")

    @functools.lru_cache(maxsize=1)  # the inputs of one shape at a time
    def step_of(n: int, d: int) -> Callable[[], float]:
        return timed_step(contrastive_ops, n, d)

    for line in sys.stdin:
        n, d, calls = map(int, line.split())
        step = step_of(n, d)
        if calls > 1:  # short enough to notice that the other process had the caches
            step()
        print(statistics.median(step() for _ in range(calls)), flush=True)


def timed_step(ops: ModuleType, n: int, d: int) -> Callable[[], float]:
    """Forward and backward on N unit vectors of either side, as a function that returns its seconds."""
    generator = torch.Generator().manual_seed(0)
    x, y = (F.normalize(torch.randn(n, d, generator=generator), dim=1).requires_grad_() for _ in range(2))
    scale = torch.tensor(1 / 0.07, requires_grad=True)

    def step() -> float:
        x.grad = y.grad = scale.grad = None  # allocated anew, as in training
        start = time.perf_counter()
        ops.clip_loss(x, y, scale, backend="cpu").backward()
        return time.perf_counter() - start

    return step


if __name__ == "__main__":
    main()

"""Samples of two trees in pairs, one after the other, so that both meet the same weather of the machine."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

from bench.commits.ratio import Ratio, ratio_of
from bench.shapes import Shape

SAMPLE_SECONDS = 0.05  # short steps are repeated to fill this; the sample is then their median


class Worker(AbstractContextManager["Worker"]):
    """A process with the library of one tree."""

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        command = [sys.executable, str(Path(__file__).with_name("worker.py")), str(tree)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def seconds(self, shape: Shape, calls: int = 1) -> float:
        """Of a training step, the median of so many."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            print(*shape, calls, file=self.process.stdin, flush=True)
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise RuntimeError(f"the process of {self.tree} ended, expected a time: its own message is above")
        return float(answer)

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if error is not None:
            self.process.kill()
        self.process.communicate()  # which closes its input: it ends


def compare(
    new: Worker, old: Worker, shape: Shape, pairs: int, progress: Callable[[str], None] = lambda text: None
) -> Ratio:
    """Time of the new tree over that of the old one."""
    for worker in (new, old):
        worker.seconds(shape)  # pays for page faults and for what is made once
    calls = max(1, math.ceil(SAMPLE_SECONDS / max(new.seconds(shape), old.seconds(shape))))
    samples: list[tuple[float, float]] = []
    for done in range(pairs):
        progress(f"{shape}: pair {done + 1}/{pairs}")
        if done % 2:  # nobody is always the first
            of_old, of_new = old.seconds(shape, calls), new.seconds(shape, calls)
        else:
            of_new, of_old = new.seconds(shape, calls), old.seconds(shape, calls)
        samples.append((of_new, of_old))
    return ratio_of(samples)

"""Peak resident memory that one step adds, measured in a fresh process: `python -m bench.cpu.memory ours 8192x512`."""

from __future__ import annotations

import json
import subprocess
import sys

import torch

from bench import REPOSITORY
from bench.cpu.contestants import TRAINING, Inputs, clip_contestants
from bench.shapes import Shape
from contrastive_ops.backends.cpu import release_workspace
from contrastive_ops.testing.memory import AddedMemory, added_by

WARM_UP_ROWS = 32


def added_peak(
    contestant: str,
    shape: Shape,
    *,
    mode: str = TRAINING,
    backend: str | None = None,
    threads: int = 1,
    timeout: float = 1800.0,
) -> AddedMemory:
    """Run one step in a subprocess; RuntimeError with its last words if it fails."""
    command = [sys.executable, "-m", "bench.cpu.memory", contestant, str(shape), mode, backend or "", str(threads)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=REPOSITORY)
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"{contestant} at {shape} took longer than {timeout:.0f} s") from error
    if done.returncode:
        last_words = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise RuntimeError(f"{contestant} at {shape} failed: {last_words}")
    return AddedMemory(*json.loads(done.stdout.splitlines()[-1]))


def _measure_here(contestant_name: str, shape: Shape, mode: str, backend: str | None) -> AddedMemory:
    contestant = clip_contestants(backend)[contestant_name]
    inputs = Inputs.make(shape)
    step = contestant.make_step(inputs, mode)
    if contestant_name == "compile":
        step()  # compiled for exactly this shape, so only a full step warms it up; it caches no memory of its own
        inputs.restart()
    else:
        # a small problem loads the libraries; the workspace that it leaves behind is released, so that all of the
        # real one counts
        warm = Inputs.make(Shape(min(WARM_UP_ROWS, shape.n), shape.d))
        contestant.make_step(warm, mode)()
        del warm
        release_workspace()
    return added_by(step)


def main(arguments: list[str]) -> None:
    contestant, shape, mode, backend, threads = arguments
    torch.set_num_threads(int(threads))
    print(json.dumps(_measure_here(contestant, Shape.parse(shape), mode, backend or None)))


if __name__ == "__main__":
    main(sys.argv[1:])

"""Peak memory of one loss, forward and backward, each measured in a process of its own."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

GIB = 2**30
WARM_UP_BATCH = 64
DENSE_MATRICES = 6  # [N, N] float32 matrices to expect of the dense loss before any has been measured


class Point(NamedTuple):
    """`bytes` is the added peak: inputs were there before, gradients are part of it."""

    loss: str
    batch_size: int
    bytes: int


def measure(
    batch_sizes: Sequence[int], width: int, backend: str | None, threads: int, limit_gib: float
) -> Iterator[Point | str]:
    """One point per loss and batch size, or a line that says why it is missing."""
    limit = min(limit_gib * GIB, 0.8 * _available_bytes())
    expected_per_element = 4.0 * DENSE_MATRICES
    for batch_size in sorted(batch_sizes):
        yield _measure_apart("ours", batch_size, width, backend, threads)
        expected = expected_per_element * batch_size**2
        if expected > limit:
            yield f"dense at {batch_size}: left out, needs about {expected / GIB:.1f} GiB of {limit / GIB:.1f} allowed"
            continue
        point = _measure_apart("dense", batch_size, width, backend, threads)
        if isinstance(point, Point):
            expected_per_element = point.bytes / batch_size**2
        yield point


def _measure_apart(loss: str, batch_size: int, width: int, backend: str | None, threads: int) -> Point | str:
    """In a new process: memory that an allocator kept from earlier work would hide what this loss needs."""
    arguments = [loss, str(batch_size), str(width), str(threads), *([backend] if backend else [])]
    done = subprocess.run([sys.executable, str(Path(__file__)), *arguments], capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return f"{loss} at {batch_size}: not measured (exit status {done.returncode}: {reason})"
    return Point(loss, batch_size, json.loads(done.stdout))


def _available_bytes() -> float:
    try:
        with open("/proc/meminfo") as lines:
            return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return float("inf")


def _status_bytes(key: str) -> int:
    with open("/proc/self/status") as lines:
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(key))


def _start_watching() -> int:
    """Bytes in use now. The recorded peak falls back to it where the system allows."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return _status_bytes("VmRSS:")
    except OSError:
        return _peak_bytes()


def _peak_bytes() -> int:
    try:
        return _status_bytes("VmHWM:")
    except OSError:
        import resource  # Unix only

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _added_peak(loss: str, batch_size: int, width: int, threads: int, backend: str | None) -> int:
    import torch  # here, because the measuring parent has no use for a second import time

    from code_search_lib.training import dense_loss, library_loss

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    function = dense_loss if loss == "dense" else library_loss(backend)

    def make_inputs(count: int) -> list[torch.Tensor]:
        vectors = [torch.nn.functional.normalize(torch.randn(count, width), dim=1) for _ in range(2)]
        return [tensor.requires_grad_() for tensor in (*vectors, torch.tensor(14.3))]

    function(*make_inputs(WARM_UP_BATCH)).backward()  # code and thread pools are loaded on first use
    inputs = make_inputs(batch_size)
    before = _start_watching()
    function(*inputs).backward()
    return _peak_bytes() - before


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    parser = argparse.ArgumentParser(description="Print the added peak memory of one loss in bytes.")
    parser.add_argument("loss", choices=("ours", "dense"))
    parser.add_argument("batch_size", type=int)
    parser.add_argument("width", type=int)
    parser.add_argument("threads", type=int)
    parser.add_argument("backend", nargs="?")
    options = parser.parse_args()
    print(json.dumps(_added_peak(options.loss, options.batch_size, options.width, options.threads, options.backend)))

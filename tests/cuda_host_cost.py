"""Processor time that the host spends on a step of the cuda backend, and what it asks of the runtime; without a GPU.

    python tests/cuda_host_cost.py                    N x D of the promises
    python tests/cuda_host_cost.py 16384x512 --json

The module is that of the tests' emulator, which counts the calls of its runtime (csrc/cuda/runtime.h) and does nothing
else: what is left is the host code of `forward` and `backward` with torch's allocations, and is not what CUDA itself
takes for a launch.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch

from contrastive_ops import diagonal, off_diagonal
from contrastive_ops.backends import Wanted
from contrastive_ops.build_problem import build_problem
from contrastive_ops.reductions import LogSumExp, ScoreSum
from contrastive_ops.testing import emulated_cuda

PROMISED = {(65536, 768): 8.0, (4096, 512): 0.4}  # milliseconds
REPEATS = 20


class Cost(NamedTuple):
    milliseconds: float  # of forward and backward, the best of some
    launches: int
    fills: int
    tensor_maps: int
    allowances: int  # of shared memory, in the steps after the first


def measure(n: int, d: int) -> Cost:
    """A step of both directions in bfloat16, with the gradients of queries, keys and scale."""
    module = emulated_cuda.load()
    backend = emulated_cuda.emulated_backend(module, has_hopper=True)
    queries, keys = (torch.empty(1, n, d, dtype=torch.bfloat16) for _ in range(2))
    reductions = {"all": LogSumExp(off_diagonal(), columns=True), "pair": ScoreSum(diagonal(), columns=True)}
    problem = build_problem(queries, keys, reductions, scale=torch.tensor(10.0)).with_batch()
    wanted = Wanted(queries=True, keys=True, scale=True, row_bias=False, col_bias=False)

    def step() -> tuple[float, emulated_cuda.HostCounts]:
        before, start = emulated_cuda.host_counts(module), time.process_time()
        results, state = backend.forward(problem)
        assert state is not None
        backend.backward(problem, results, results, state, wanted)
        seconds = time.process_time() - start
        return seconds, emulated_cuda.host_counts(module) - before

    step()
    steps = [step() for _ in range(REPEATS)]
    seconds, counts = min(steps, key=lambda found: found[0])
    return Cost(seconds * 1e3, counts.launches, counts.fills, counts.tensor_maps, counts.allowances)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="*", default=[f"{n}x{d}" for n, d in PROMISED], metavar="NxD")
    parser.add_argument("--json", action="store_true", help="for programs")
    arguments = parser.parse_args()
    os.environ["CUDA_EMULATOR_COUNT"] = "1"  # read at the first launch
    torch.set_num_threads(1)
    costs = {size: measure(*map(int, size.split("x"))) for size in arguments.sizes}
    if arguments.json:
        print(json.dumps({size: cost._asdict() for size, cost in costs.items()}))
        return
    for size, cost in costs.items():
        print(
            f"{size}: {cost.milliseconds:.2f} ms, {cost.launches} launches, {cost.fills} fills, "
            f"{cost.tensor_maps} tensor maps encoded"
        )


if __name__ == "__main__":
    main()

"""Processor time that the host spends on a step of the triton backend, and its launches; without a GPU.

    python tests/triton_host_cost.py                    N x D of the promises
    python tests/triton_host_cost.py 16384x512 --json

Launches go through triton's own launcher onto the stub driver library of `triton_launcher.py`, which returns at once.
Tensors are of the meta device, so that what torch does between the launches costs the host alone, as on a GPU. In
`step` they have memory, because autograd runs: the public loss forward and backward, its vectors computed for real.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch

ARCH = "sm_90"
PROMISED = {(65536, 768): 12.0, (4096, 512): 0.5}  # milliseconds
PROMISED_STEP = {(4096, 512): 0.9}
REPEATS = 20


class Cost(NamedTuple):
    milliseconds: float  # the best of some
    launches: int


def measure_backend(backend: Any, stub: Any, n: int, d: int) -> Cost:
    """`forward` and `backward` of both directions in bfloat16, with the gradients of queries, keys and scale."""
    from contrastive_ops import diagonal, off_diagonal
    from contrastive_ops.backends import Wanted
    from contrastive_ops.build_problem import build_problem
    from contrastive_ops.ops.statistics import statistics_reductions

    queries, keys = (torch.empty(1, n, d, dtype=torch.bfloat16, device="meta") for _ in range(2))
    scale = torch.empty((), device="meta")
    reductions = statistics_reductions(off_diagonal(), diagonal(), columns=True)
    problem = build_problem(queries, keys, reductions, scale=scale).with_batch()
    wanted = Wanted(queries=True, keys=True, scale=True, row_bias=False, col_bias=False)

    def step() -> None:
        results, state = backend.forward(problem)
        backend.backward(problem, results, results, state, wanted)

    return _best(step, stub)


def measure_step(backend: Any, stub: Any, n: int, d: int) -> Cost:
    """A user's step: `clip_loss` with a learned scale, forward and backward."""
    from contrastive_ops import clip_loss
    from contrastive_ops.backends import BACKENDS

    BACKENDS["triton"] = backend
    queries, keys = (torch.zeros(n, d, dtype=torch.bfloat16, requires_grad=True) for _ in range(2))
    scale = torch.tensor(10.0, requires_grad=True)

    def step() -> None:
        queries.grad = keys.grad = scale.grad = None
        clip_loss(queries, keys, scale, backend="triton").backward()

    return _best(step, stub)


def _best(step: Callable[[], None], stub: Any) -> Cost:
    step()  # compiles
    found = []
    for _ in range(REPEATS):
        launches, start = stub.stub_launches(), time.process_time()
        step()
        found.append(Cost((time.process_time() - start) * 1e3, stub.stub_launches() - launches))
    return min(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="*", default=[f"{n}x{d}" for n, d in PROMISED], metavar="NxD")
    parser.add_argument("--json", action="store_true", help="for programs")
    arguments = parser.parse_args()
    # which turns Triton's interpreter off, for a whole process
    from triton_launcher import backend_on_stub, build_stub, use_stub

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TRITON_CACHE_DIR"] = folder
        stub = build_stub(Path(folder), is_amd=False)
        use_stub(ARCH)
        backend = backend_on_stub(ARCH, "bf16")
        costs = {}
        for size in arguments.sizes:
            n, d = map(int, size.split("x"))
            costs[size] = {"backend": measure_backend(backend, stub, n, d)._asdict()}
            if (n, d) in PROMISED_STEP:
                costs[size]["step"] = measure_step(backend, stub, n, d)._asdict()
    if arguments.json:
        print(json.dumps(costs))
        return
    for size, parts in costs.items():
        for part, cost in parts.items():
            print(f"{size} {part}: {cost['milliseconds']:.2f} ms, {cost['launches']} launches")


if __name__ == "__main__":
    main()

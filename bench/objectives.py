"""`python -m bench.objectives`: cost of a training step of every loss over that of `clip_loss`, in one process.

The clock counts the processor's seconds of this process, in one thread, so that a busy machine hardly shows.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from rich.console import Console
from rich.table import Table

from bench.machine import machine_info
from bench.shapes import Shape
from contrastive_ops.testing import make_pairs
from contrastive_ops.testing.loss_calls import CALLS, Call


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.objectives", description=__doc__)
    parser.add_argument("--shape", type=Shape.parse, default=Shape(4096, 256), metavar="NxD")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backend", help="the first that can by default")
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    def seconds(call: Call, shape: Shape) -> float:
        x, y = (value.requires_grad_() for value in make_pairs(*shape))
        start = time.process_time()
        call(x, y, backend=arguments.backend).backward()
        return time.process_time() - start

    for call in CALLS.values():  # loads and allocates what later steps find
        seconds(call, Shape(256, arguments.shape.d))
    rounds = [{name: seconds(call, arguments.shape) for name, call in CALLS.items()} for _ in range(arguments.rounds)]

    machine = machine_info(1)
    table = Table(title=f"forward + backward, {arguments.shape}, {machine['cpu']}, 1 thread, torch {machine['torch']}")
    for heading in ("loss", "scores / N^2", "CPU time", "over clip_loss"):
        table.add_column(heading, justify="left" if heading == "loss" else "right")
    for name, call in CALLS.items():
        cost = statistics.median(sample[name] for sample in rounds)
        ratio = statistics.median(sample[name] / sample["clip_loss"] for sample in rounds)
        visited = "" if call.scores is None else f"{call.scores:g}"
        table.add_row(name, visited, f"{cost:.2f} s", f"{ratio:.2f}")
    Console(width=110).print(table)


if __name__ == "__main__":
    main()

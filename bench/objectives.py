"""`python -m bench.objectives`: time of a training step of every loss over that of `clip_loss`, alternated in one
process."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table

from bench.loss_calls import CALLS, Call
from bench.machine import machine_info
from bench.shapes import Shape
from bench.timing import Job, alternate
from contrastive_ops.testing import make_pairs


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.objectives", description=__doc__)
    parser.add_argument("--shape", type=Shape.parse, default=Shape(4096, 256), metavar="NxD")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backend", help="the first that can by default")
    arguments = parser.parse_args()
    machine = machine_info(torch.get_num_threads())
    x, y = (value.requires_grad_() for value in make_pairs(*arguments.shape))

    def restart() -> None:
        x.grad = y.grad = None

    def step(call: Call) -> Callable[[], None]:
        return lambda: call(x, y, backend=arguments.backend).backward()

    jobs = {name: Job(name, "training", step(call), restart) for name, call in CALLS.items()}
    alternate(
        list(jobs.values()),
        rounds=arguments.rounds,
        least_rounds=arguments.rounds,
        budget_seconds=0.0,
        peak_meter=None,
    )
    first = next(iter(jobs.values())).median_seconds
    table = Table(title=f"forward + backward, {arguments.shape}, {machine['cpu']}, {machine['threads']} threads")
    for heading in ("loss", "scores / N^2", "time", "time / clip_loss"):
        table.add_column(heading, justify="left" if heading == "loss" else "right")
    for name, job in jobs.items():
        scores = CALLS[name].scores
        seconds = job.median_seconds
        table.add_row(
            name, "" if scores is None else f"{scores:g}", f"{seconds * 1e3:.1f} ms", f"{seconds / first:.2f}"
        )
    Console(width=110).print(table)


if __name__ == "__main__":
    main()

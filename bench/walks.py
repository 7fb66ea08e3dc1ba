"""One direction, and few rows against many keys: `python -m bench.walks 4096x4096x512 64x65536x768 --frozen`.

A shape is M x N x D. A training step of `summed_row_cross_entropy` is alternated in one process with the dense loss,
that loss compiled and PyTorch's own chunked operator, and where M = N with `clip_loss`, which has both directions. Each
runs as a training loop has it: an untimed step goes before each sample.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from bench.cpu.peak import fma_peak_meter
from bench.cpu.timing import Job, alternate
from contrastive_ops import clip_loss, diagonal, off_diagonal, summed_row_cross_entropy

SCALE = 1 / 0.07
MIB = 1 << 20

Loss = Callable[[Tensor, Tensor], Tensor]


def dense(queries: Tensor, keys: Tensor) -> Tensor:
    return F.cross_entropy(SCALE * queries @ keys.mT, torch.arange(len(queries)), reduction="sum")


def chunked(queries: Tensor, keys: Tensor) -> Tensor:
    options = torch.nn.LinearCrossEntropyOptions()
    target = torch.arange(len(queries))
    return F.linear_cross_entropy(SCALE * queries, keys, target, options=options, reduction="sum")


def losses(m: int, n: int, workspace_bytes: int) -> dict[str, Loss]:
    def one_direction(queries: Tensor, keys: Tensor) -> Tensor:
        return summed_row_cross_entropy(
            queries,
            keys,
            scale=SCALE,
            candidates=off_diagonal(),
            positives=diagonal(),
            workspace_bytes=workspace_bytes,
        )

    found: dict[str, Loss] = {"ours": one_direction}
    if m == n:
        found["clip_loss"] = lambda queries, keys: clip_loss(queries, keys, SCALE, workspace_bytes=workspace_bytes)
    found |= {"dense": dense, "torch.compile": torch.compile(dense, dynamic=False, fullgraph=True)}
    if hasattr(F, "linear_cross_entropy"):
        found["linear_cross_entropy"] = chunked
    return found


def report(shape: str, frozen: bool, workspace_bytes: int, rounds: int, console: Console) -> None:
    torch._dynamo.reset()
    m, n, d = map(int, shape.split("x"))
    queries, keys = (F.normalize(torch.randn(length, d), dim=1) for length in (m, n))
    leaves = [queries.requires_grad_(), keys.requires_grad_(not frozen)]

    def restart() -> None:
        queries.grad = keys.grad = None

    def step(loss: Loss) -> None:
        loss(*leaves).backward()

    jobs = [
        Job(name, "forward+backward", partial(step, loss), restart, repeats=True)
        for name, loss in losses(m, n, workspace_bytes).items()
    ]
    meter = fma_peak_meter(torch.get_num_threads())
    with console.status("") as status:
        alternate(jobs, rounds=rounds, least_rounds=2, budget_seconds=120.0, peak_meter=meter, progress=status.update)
    products = 2 if frozen else 3
    table = Table(
        title=f"{shape}{', keys frozen' if frozen else ''}, {workspace_bytes // MIB} MiB", title_justify="left"
    )
    for heading in ("", "time", "of ours", f"share of the peak ({products} products)"):
        table.add_column(heading)
    for job in jobs:
        rates = sorted(
            2e-9 * products * m * n * d / seconds / peak for seconds, peak in zip(job.seconds, job.peaks, strict=True)
        )
        ratio = job.median_seconds / jobs[0].median_seconds
        table.add_row(job.name, f"{1e3 * job.median_seconds:.1f} ms", f"{ratio:.2f}", f"{rates[len(rates) // 2]:.2f}")
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", nargs="+", metavar="MxNxD")
    parser.add_argument("--frozen", action="store_true", help="keys without gradient")
    parser.add_argument("--workspace", type=int, default=64, metavar="MIB", help="budget in MiB (default 64)")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    for shape in args.shapes:
        report(shape, args.frozen, args.workspace * MIB, args.rounds, Console())


if __name__ == "__main__":
    main()

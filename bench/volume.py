"""GRAM's volume loss beside stored Gram matrices: `python -m bench.volume 4096x512 --stored 2048`.

Stored means what GRAM's public code does: all products of an anchor and a tuple in an `[N, N, K + 1, K + 1]` tensor,
and a batched determinant. Time is of a training step, alternated in one process, each sample beside its own FMA peak;
memory is what a step adds to the peak of a fresh process; errors are relative to float64.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from bench import REPOSITORY
from bench.cpu.contestants import MIB
from bench.cpu.peak import fma_peak_meter
from bench.cpu.timing import Job, alternate
from bench.shapes import Shape
from contrastive_ops import gram_loss, gram_nearest, gram_volume
from contrastive_ops.backends.cpu import release_workspace
from contrastive_ops.testing.memory import AddedMemory, added_by

TEMPERATURE = 0.07
ANGLES = (1.0, 1e-1, 1e-2, 1e-3, 1e-4)


def stored_volumes(anchor: Tensor, modalities: Sequence[Tensor]) -> Tensor:
    """sqrt(|det G_ij|), `[M, N]`, from the stored Gram matrices of (a_i, x^1_j, ..., x^K_j)."""
    m, n = anchor.shape[0], modalities[0].shape[0]
    square = anchor.square().sum(1)[:, None].expand(m, n)
    across = [anchor @ x.mT for x in modalities]
    inside = [[(x * y).sum(1).expand(m, n) for y in modalities] for x in modalities]
    rows = [torch.stack([square, *across], -1)]
    rows += [torch.stack([products, *line], -1) for products, line in zip(across, inside, strict=True)]
    return torch.linalg.det(torch.stack(rows, -2).float()).abs().sqrt()


def stored_gram_loss(anchor: Tensor, modalities: Sequence[Tensor]) -> Tensor:
    logits = -stored_volumes(anchor, modalities) / TEMPERATURE
    target = torch.arange(len(anchor))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.mT, target)) / 2


LOSSES: dict[str, Callable[[Tensor, Sequence[Tensor]], Tensor]] = {
    "contrastive-ops": lambda anchor, modalities: gram_loss(anchor, modalities, temperature=TEMPERATURE),
    "stored Gram matrices": stored_gram_loss,
}


def make_tuples(shape: Shape, count: int) -> list[Tensor]:
    """Anchor and modalities that agree in part, `[N, D]` each."""
    generator = torch.Generator().manual_seed(0)
    shared = torch.randn(shape.n, shape.d, generator=generator)
    return [
        F.normalize(shared + torch.randn(shape.n, shape.d, generator=generator), dim=-1).requires_grad_()
        for _ in range(count + 1)
    ]


def training_step(name: str, leaves: list[Tensor]) -> Callable[[], None]:
    return lambda: LOSSES[name](leaves[0], leaves[1:]).backward()


def time_steps(names: Sequence[str], shape: Shape, count: int, rounds: int, console: Console) -> dict[str, Job]:
    leaves = make_tuples(shape, count)

    def restart() -> None:
        for leaf in leaves:
            leaf.grad = None

    jobs = {name: Job(name, "forward+backward", training_step(name, leaves), restart, repeats=True) for name in names}
    with console.status("") as status:
        alternate(
            tuple(jobs.values()),
            rounds=rounds,
            least_rounds=2,
            budget_seconds=120.0,
            peak_meter=fma_peak_meter(torch.get_num_threads()),
            progress=status.update,
        )
    return jobs


def added_memory(name: str, shape: Shape, count: int) -> AddedMemory:
    """Of one step, in a fresh process."""
    command = [sys.executable, "-m", "bench.volume", str(shape), "--modalities", str(count), "--memory-of", name]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    if done.returncode:
        raise RuntimeError(f"{name} at {shape} failed: {(done.stderr.strip().splitlines() or ['killed'])[-1]}")
    return AddedMemory(*json.loads(done.stdout.splitlines()[-1]))


def added_memory_here(name: str, shape: Shape, count: int) -> AddedMemory:
    training_step(name, make_tuples(Shape(32, shape.d), count))()
    release_workspace()
    return added_by(training_step(name, make_tuples(shape, count)))


def report_time(shape: Shape, stored_n: int, count: int, rounds: int, console: Console) -> None:
    table = Table(
        title=f"gram_loss, {count} modalities and an anchor, forward + backward, float32", title_justify="left"
    )
    for heading in (
        "N x D",
        "",
        "time",
        f"share of the peak ({3 * count} products)",
        "added memory",
        "beyond gradients",
    ):
        table.add_column(heading)
    for at, names in ((Shape(stored_n, shape.d), tuple(LOSSES)), (shape, ("contrastive-ops",))):
        jobs = time_steps(names, at, count, rounds, console)
        flops = 3 * count * 2.0 * at.n * at.n * at.d
        gradients = (count + 1) * at.n * at.d * 4
        for name, job in jobs.items():
            shares = sorted(flops / 1e9 / s / peak for s, peak in zip(job.seconds, job.peaks, strict=True))
            memory = added_memory(name, at, count).bytes
            table.add_row(
                str(at),
                name,
                f"{job.median_seconds:.3f} s",
                f"{shares[len(shares) // 2]:.2f}",
                f"{memory / MIB:.0f} MiB",
                f"{(memory - gradients) / MIB:.0f} MiB",
            )
    console.print(table)


def report_accuracy(console: Console) -> None:
    """Worst relative error of float32 volumes over all pairs, where vectors are at a small angle."""
    table = Table(title="worst relative error of a float32 volume, 64 x 64 pairs, D = 32, K = 2", title_justify="left")
    for heading in ("angle", "data: ours", "data: stored", "pairs: ours", "pairs: stored"):
        table.add_column(heading)
    generator = torch.Generator().manual_seed(0)
    for angle in ANGLES:
        anchor, first, away, apart = F.normalize(
            torch.randn(4, 64, 32, generator=generator, dtype=torch.float64), dim=-1
        )
        # two data vectors near each other, the anchors anywhere; and tuples whose vectors are all near one another
        near = [x.float() for x in (anchor, first, F.normalize(first + angle * away, dim=-1))]
        tuples = [x.float() for x in (first, near[2], F.normalize(first + angle * apart, dim=-1))]
        table.add_row(f"{angle:g}", *(f"{error:.1e}" for error in (*_data_errors(near), *_pair_errors(tuples))))
    console.print(table)


def _data_errors(vectors: list[Tensor]) -> tuple[float, float]:
    def all_volumes(vectors: list[Tensor]) -> Tensor:
        volumes, indices = gram_nearest(vectors[0], vectors[1:], len(vectors[0]))
        return torch.empty_like(volumes).scatter_(1, indices, volumes)

    truth = all_volumes([x.double() for x in vectors])
    return _worst(all_volumes(vectors), truth), _worst(stored_volumes(vectors[0], vectors[1:]), truth)


def _pair_errors(vectors: list[Tensor]) -> tuple[float, float]:
    truth = gram_volume(vectors[0].double(), [x.double() for x in vectors[1:]])
    stored = stored_volumes(vectors[0], vectors[1:]).diagonal()
    return _worst(gram_volume(vectors[0], vectors[1:]), truth), _worst(stored, truth)


def _worst(found: Tensor, truth: Tensor) -> float:
    return ((found.double() - truth).abs() / truth).max().item()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.volume", description=__doc__.splitlines()[0])
    parser.add_argument("shape", type=Shape.parse, nargs="?", default=Shape(4096, 512), metavar="NxD")
    parser.add_argument("--stored", type=int, default=2048, metavar="N", help="compare with stored matrices at this N")
    parser.add_argument("--modalities", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--memory-of", choices=LOSSES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.memory_of:
        print(json.dumps(added_memory_here(arguments.memory_of, arguments.shape, arguments.modalities)))
        return
    console = Console(width=None if sys.stdout.isatty() else 150)
    report_accuracy(console)
    report_time(arguments.shape, arguments.stored, arguments.modalities, arguments.rounds, console)


if __name__ == "__main__":
    main()

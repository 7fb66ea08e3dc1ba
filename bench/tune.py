"""Times other tiles of a Triton kernel on this GPU, prints rows of the table: `python -m bench.tune --kernel gradient`

The whole step runs with each tile and is compared with the table's own; then the launches of that kernel alone are
repeated and timed.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext
from typing import NamedTuple
from unittest import mock

import torch
from torch import Tensor

from bench.gpu.clock import milliseconds
from bench.gpu.machine import NO_GPU, gpu_info, missing
from bench.predict.candidates import KERNELS, candidate_tiles, replaced_tile, table_row, table_tile, two_levels
from bench.predict.launches import OBJECTIVES, PRECISIONS
from contrastive_ops import clip_loss, info_nce, nt_xent
from contrastive_ops.backends.triton.backend import _arch
from contrastive_ops.backends.triton.launch import Launch
from contrastive_ops.backends.triton.tiles import INTERPRETER
from contrastive_ops.testing import TOLERANCES, make_pairs, norm_error

LOSSES = {
    "clip": lambda x, y, scale: clip_loss(x, y, scale, backend="triton"),
    "nt_xent": lambda x, y, scale: nt_xent(x, y, temperature=1 / scale, backend="triton"),
    "info_nce": lambda x, y, scale: info_nce(x, y, temperature=1 / scale, backend="triton"),
}
OTHER_ORDER = 4.0  # two tiles may differ by so many times the tolerance against the truth: sums in another order


class Step(NamedTuple):
    results: dict[str, Tensor]
    launches: list  # of the kernel in question


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.tune",
        description="Times tiles of one Triton kernel on this GPU and prints rows of the tile table.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--kernel", choices=KERNELS, default="gradient")
    parser.add_argument("--objective", choices=OBJECTIVES, default="clip")
    parser.add_argument("--n", type=int, default=16384)
    parser.add_argument("--d", type=int, default=512)
    parser.add_argument("--dtype", choices=list(PRECISIONS), default="bfloat16")
    parser.add_argument("--best", type=int, default=10, help="rows to print")
    parser.add_argument("--limit", type=int, help="time only so many tiles")
    parser.add_argument("--device", type=torch.device, default=torch.device("cuda"), help="cpu tries this tool")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    parsed = parse_arguments(arguments)
    device = parsed.device
    if reason := missing(device):
        print(f"Nothing was tuned: {reason}")
        print("Without a GPU, `python -m bench.roofline --tiles` predicts which tiles would help.")
        return NO_GPU
    from rich.console import Console  # needed from here on, so that the message above needs nothing
    from rich.progress import track

    console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
    torch.set_float32_matmul_precision("high" if parsed.dtype == "tf32" else "highest")
    is_gpu = device.type != "cpu"
    arch, precision = (_arch(device), PRECISIONS[parsed.dtype]) if is_gpu else (INTERPRETER, "any")
    own = table_tile(parsed.kernel, arch, precision, parsed.d)
    with two_levels() if parsed.kernel.startswith("macro") else nullcontext():
        expected = run_step(parsed)
        found = [] if own is None else [(milliseconds(lambda: replay(expected), device), own)]
        refused: list[str] = []
        tiles = [tile for tile in candidate_tiles(parsed.kernel, arch, precision, parsed.d) if tile != own]
        for tile in track(tiles[: parsed.limit], "timing tiles", console=console):
            with replaced_tile(parsed.kernel, arch, precision, tile):
                try:
                    step = run_step(parsed)
                    if difference := disagreement(step.results, expected.results):
                        refused.append(f"{tuple(tile)}: {difference}")
                        continue
                    found.append((milliseconds(lambda step=step: replay(step), device), tile))
                except Exception as error:  # whatever the compiler says: too much shared memory, too many registers
                    said = (str(error).splitlines() or [""])[0][:100]
                    refused.append(f"{tuple(tile)}: {type(error).__name__}: {said}")
    info = gpu_info(device)
    what = f"{parsed.objective} {parsed.n}x{parsed.d} {parsed.dtype}"
    console.print(f"{parsed.kernel}, {what}, {info['device']}, torch {info['torch']}, triton {info['triton']}")
    console.print(f'("{arch}", "{precision}"):')
    for time, tile in sorted(found)[: parsed.best]:
        console.print(
            f"    {table_row(tile, parsed.d)},  # {time:.3f} ms{', in the table' if tile == own else ''}",
            markup=False,
        )
    console.print(f"{len(found)} tiles timed, {len(refused)} left out")
    for line in refused:
        console.print(f"  {line}", markup=False)
    return 0


def run_step(parsed: argparse.Namespace) -> Step:
    """One training step; launches run as usual and those of the kernel are kept."""
    dtype = torch.float32 if parsed.dtype == "tf32" else getattr(torch, parsed.dtype)
    x, y = (value.to(parsed.device).requires_grad_() for value in make_pairs(parsed.n, parsed.d, dtype))
    scale = torch.tensor(14.25, device=parsed.device, requires_grad=True)
    kept, run = [], Launch.run

    def run_and_keep(launch: Launch) -> None:
        run(launch)
        if launch.kernel.__name__.startswith(parsed.kernel):
            kept.append(launch)

    with mock.patch.object(Launch, "run", run_and_keep):
        loss = LOSSES[parsed.objective](x, y, scale)
        loss.backward()
    assert x.grad is not None and y.grad is not None and scale.grad is not None
    return Step({"loss": loss.detach(), "dx": x.grad, "dy": y.grad, "dscale": scale.grad}, kept)


def replay(step: Step) -> None:
    for launch in step.launches:
        launch.run()


def disagreement(results: dict[str, Tensor], expected: dict[str, Tensor]) -> str | None:
    """The first result that is not what the table's tile gives; None if all agree."""
    for name, value in expected.items():
        tolerance = TOLERANCES[value.dtype].grad * OTHER_ORDER
        error = norm_error(results[name], value)
        if not error <= tolerance:
            return f"{name} differs by {error:.1e}, allowed {tolerance:.1e}"
    return None


if __name__ == "__main__":
    sys.exit(main())

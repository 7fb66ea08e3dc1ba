"""Predicted time of a training step on a GPU that need not be here: `python -m bench.roofline --arch sm_90 --d 512`.

Each launch of the Triton backend needs time on tensor cores, L2, memory, special-function units and instruction issue;
the longest of them bounds it. PREDICTIONS FROM DATASHEETS, not measurements: `make gpu-check` measures.
"""

from __future__ import annotations

import argparse
import itertools
import sys

from rich.console import Console
from rich.table import Table

from bench.predict.candidates import KERNELS
from bench.predict.gpus import BY_ARCH, GPUS
from bench.predict.launches import OBJECTIVES, PRECISIONS
from bench.predict.prediction import Prediction, best_candidate, predict
from contrastive_ops.backends.triton.tiles import find_tile

PROMISED_SHARE, PROMISED_ARCH, PROMISED_D, PROMISED_N = 0.6, "sm_90", 256, 16384  # of clip_loss in bfloat16
ASSUMPTIONS = (
    "PREDICTION, not a measurement: no kernel ran. Assumed: datasheet rates at boost clock without a power limit; each "
    "load of embeddings is a 16-byte asynchronous copy; no register spills; shared memory keeps up with the tensor "
    "cores; tiles crossed by a diagonal cost what the others cost; element-wise work of PyTorch around the kernels is "
    "free. 'overlap': the slowest resource alone counts, which takes two blocks on an SM or a pipeline in the kernel. "
    "'no overlap': products and element-wise instructions follow one another. SMs without a program idle."
)


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.roofline",
        description="Predicted time of a training step of the Triton backend, from datasheets.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--arch", choices=list(BY_ARCH), help="one architecture; all by default")
    parser.add_argument("--gpu", choices=[gpu.name for gpu in GPUS], help="one GPU")
    parser.add_argument("--n", type=int, action="append", help="pairs; may be repeated; 16384 and 65536 by default")
    parser.add_argument("--d", type=int, action="append", help="may be repeated; 256, 512 and 1024 by default")
    parser.add_argument("--dtype", choices=list(PRECISIONS), default="bfloat16")
    parser.add_argument("--objective", choices=OBJECTIVES, default="clip")
    parser.add_argument("--l2", choices=("seen", "nominal"), default="seen", help="by micro-benchmarks, or its width")
    parser.add_argument("--markdown", action="store_true", help="the table of docs/triton_kernels.md and nothing else")
    parser.add_argument("--tiles", action="store_true", help="also search tiles for the passes that fall short")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    parsed = parse_arguments(arguments)
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    gpus = [BY_ARCH[parsed.arch]] if parsed.arch else list(BY_ARCH.values())
    if parsed.gpu:
        gpus = [gpu for gpu in GPUS if gpu.name == parsed.gpu]
    if parsed.l2 == "nominal":
        gpus = [gpu._replace(l2=gpu.l2_nominal) for gpu in gpus]
    shapes = list(itertools.product(parsed.n or (16384, 65536), parsed.d or (256, 512, 1024)))
    found = [predict(parsed.objective, gpu, n, d, parsed.dtype) for gpu in gpus for n, d in shapes]
    if parsed.markdown:
        print("\n".join(markdown(found)))
        return 0
    print_summary(console, found)
    if len(found) <= 3:
        for prediction in found:
            print_passes(console, prediction)
    console.print(ASSUMPTIONS)
    print_promise(console, found)
    if parsed.tiles:
        for prediction in found:
            print_better_tiles(console, prediction)
    return 0


def print_summary(console: Console, found: list[Prediction]) -> None:
    table = Table(title=f"PREDICTED: {found[0].objective}, {found[0].dtype}, forward + backward", title_justify="left")
    for heading in ("GPU", "N", "D"):
        table.add_column(heading)
    for heading in ("GPU", "no overlap", "share of peak", "no overlap", "3 products", "host"):
        table.add_column(heading, justify="right")
    table.add_column("sum of parts, ms, the largest first")
    table.add_column("bound")
    for x in found:
        table.add_row(
            f"{x.gpu.name} ({x.gpu.arch})",
            str(x.n),
            str(x.d),
            f"{x.seconds * 1e3:.2f} ms",
            f"{x.seconds_without_overlap * 1e3:.2f} ms",
            f"{x.share:.2f}",
            f"{x.share_without_overlap:.2f}",
            f"{x.effective_flops / x.seconds / 1e12:.0f} TFLOP/s",
            f"{x.host_seconds * 1e3:.2f} ms",
            sum_of_parts(x),
            x.bound,
        )
    console.print(table)


def sum_of_parts(x: Prediction) -> str:
    parts = sorted(((seconds, name) for name, seconds in x.parts.items()), reverse=True)
    return " + ".join(f"{name} {seconds * 1e3:.2f}" for seconds, name in parts if seconds >= 0.005e-3)


def markdown(found: list[Prediction]) -> list[str]:
    """A row per shape, with the share of the peak at both figures for L2."""
    lines = [
        "| GPU | N x D | time | share of peak | without overlap | L2 at its nominal width | three products | bounds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for x in found:
        wide = predict(x.objective, x.gpu._replace(l2=x.gpu.l2_nominal), x.n, x.d, x.dtype)
        bounds = ", ".join(f"{p.kernel}: {p.bound}" for p in x.passes if p.kernel)
        lines.append(
            f"| {x.gpu.name} | {x.n} x {x.d} | {x.seconds * 1e3:.3g} ms "
            f"| {x.share:.2f} | {x.share_without_overlap:.2f} "
            f"| {wide.share:.2f} | {x.effective_flops / x.seconds / 1e12:.0f} TFLOP/s | {bounds} |"
        )
    return lines


def print_passes(console: Console, x: Prediction) -> None:
    title = f"PREDICTED: {x.objective} {x.n} x {x.d} {x.dtype} on {x.gpu.name}, milliseconds that each resource needs"
    table = Table(title=title, title_justify="left")
    for heading in ("pass", "tile"):
        table.add_column(heading)
    for heading in ("launches", "TFLOP", *x.passes[0].resources, "time", "no overlap", "share of peak"):
        table.add_column(heading, justify="right")
    table.add_column("bound")
    for p in x.passes:
        tile = find_tile(p.kernel, x.gpu.arch, PRECISIONS[x.dtype], x.d) if p.kernel else None
        table.add_row(
            p.name,
            "-" if tile is None else "x".join(map(str, tile[:3])) + f", {tile.warps} warps",
            str(p.launches),
            f"{p.flops / 1e12:.2f}",
            *(f"{value * 1e3:.3f}" for value in p.resources.values()),
            f"{p.seconds * 1e3:.3f}",
            f"{p.seconds_without_overlap * 1e3:.3f}",
            f"{p.flops / p.seconds / x.peak:.2f}",
            p.bound,
        )
    console.print(table)


def print_promise(console: Console, found: list[Prediction]) -> None:
    for x in found:
        if x.gpu.arch != PROMISED_ARCH or x.objective != "clip" or x.dtype != "bfloat16":
            continue
        if x.d < PROMISED_D or x.n < PROMISED_N:
            continue
        verdict = "predicted to be met" if x.share >= PROMISED_SHARE else "predicted to FALL SHORT"
        slowest = max(x.passes, key=lambda p: p.seconds - p.flops / x.peak)
        console.print(
            f"{x.gpu.name} {x.n} x {x.d}: promised >= {PROMISED_SHARE} of the peak, predicted {x.share:.2f} "
            f"({x.share_without_overlap:.2f} without overlap): {verdict}. Most is lost in '{slowest.name}', bound by "
            f"{slowest.bound}."
        )
        if x.host_seconds > x.seconds:
            console.print(
                f"  The host takes {x.host_seconds * 1e3:.0f} ms to launch all this, longer than the GPU: "
                "it would wait, but for a CUDA graph."
            )


def print_better_tiles(console: Console, x: Prediction) -> None:
    for kernel in KERNELS:
        if not any(p.kernel == kernel for p in x.passes):
            continue
        row, best, now = best_candidate(kernel, x)
        gain = f"{now / best:.2f}x as fast by this model" if best < 0.98 * now else "no better by this model"
        console.print(f"{x.gpu.name} D = {x.d}: {kernel} with {row}: {gain}")


if __name__ == "__main__":
    sys.exit(main())

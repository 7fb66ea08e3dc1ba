"""`make gpu-check`: are the GPU backends right and how fast are they on this GPU? Writes one report to send back."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from bench.gpu.machine import NO_GPU, gpu_info, missing, refusals

if TYPE_CHECKING:
    from rich.console import Console

OUT = Path("out/gpu_check")
BACKENDS = ("triton", "cuda")
INTERPRETED_CASES = 50  # of the matrix without a GPU, unless told otherwise


class Section(NamedTuple):
    title: str
    lines: list[str]  # Markdown
    ok: bool | None = True  # None: skipped

    @property
    def verdict(self) -> str:
        return {True: "ok", False: "FAILED", None: "skipped"}[self.ok]


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.gpu_check",
        description="Correctness and speed of the GPU backends on this GPU, in one report.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--device", type=torch.device, default=torch.device("cuda"), help="cpu tries it, interpreted")
    parser.add_argument("--limit", type=int, help="only so many cases of the matrix")
    parser.add_argument("--no-speed", action="store_true", help="correctness only")
    parser.add_argument("--quick", action="store_true", help="speed of N = 4096 only")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the report")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    parsed = parse_arguments(arguments)
    device: torch.device = parsed.device
    if reason := missing(device):
        print(f"Nothing was checked: {reason}")
        print(
            "What can be checked without a GPU: `make test` runs the same kernels in Triton's interpreter and compiles "
            "them for several GPUs; `python -m bench.roofline` predicts their speed."
        )
        return NO_GPU
    from rich.console import Console  # needed from here on, so that the message above needs nothing

    from bench.cpu.report import write_json

    console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
    if device.type == "cpu":
        _correct_interpreter()
    info = gpu_info(device)
    console.print(f"{info['device']}, torch {info['torch']}, triton {info['triton']}")
    content: dict[str, Any] = {"machine": info}
    sections = []
    for backend in BACKENDS:
        if reasons := refusals(backend, device):
            sections.append(Section(f"{backend}: correctness", [f"Skipped: {'; '.join(reasons)}."], None))
            continue
        sections.append(_matrix(device, backend, parsed, content, console))
        sections.append(_graph(device, backend, content))
    sections.append(_speed(device, parsed, content, console))
    write_json(parsed.out / "report.json", content)
    report = parsed.out / "report.md"
    report.write_text(_markdown(info, sections))
    for section in sections:
        console.print(f"{section.title}: {section.verdict}")
    console.print(f"The report is {report} (and report.json beside it).")
    console.print("Please send this file: open an issue on the project and attach it. It names no machine and no user.")
    return 1 if any(section.ok is False for section in sections) else 0


def _matrix(
    device: torch.device, backend: str, parsed: argparse.Namespace, content: dict[str, Any], console: Console
) -> Section:
    from rich.progress import Progress

    from bench.gpu.matrix import run_matrix

    limit = parsed.limit if parsed.limit is not None or device.type == "cuda" else INTERPRETED_CASES
    with Progress(console=console) as bar:
        task = bar.add_task(f"{backend}: statistics matrix", total=None)
        found = run_matrix(device, backend, limit, lambda done, total: bar.update(task, completed=done, total=total))
        bar.update(task, completed=found.cases, total=found.cases)
    content.setdefault("matrix", {})[backend] = {
        "cases": found.cases,
        "failures": found.failures,
        "not_repeatable": found.not_repeatable,
        "worst": found.worst,
    }
    quantities = sorted({name for errors in found.worst.values() for name in errors})
    lines = [
        f"{found.cases} cases of relation, shape, layout, options and dtype against float64: "
        f"{len(found.failures)} failed. Run twice: {len(found.not_repeatable)} without the same bits.",
        *(f"\n- failed: `{line}`" for line in found.failures),
        *(f"\n- not repeatable: `{line}`" for line in found.not_repeatable),
        "",
        "Worst relative error (norm) of each quantity:",
        "",
        *table(
            ["dtype", *quantities],
            [
                [dtype, *(f"{errors[name]:.1e}" if name in errors else "-" for name in quantities)]
                for dtype, errors in found.worst.items()
            ],
        ),
    ]
    return Section(f"{backend}: correctness", lines, not found.failures and not found.not_repeatable)


def _graph(device: torch.device, backend: str, content: dict[str, Any]) -> Section:
    graphs = content.setdefault("graph", {})
    if device.type != "cuda":
        graphs[backend] = "skipped: no GPU"
        return Section(f"{backend}: CUDA graph", ["Skipped: there is no GPU."], None)
    from bench.gpu.matrix import check_graph

    try:
        result = check_graph(device, backend)
    except Exception as error:
        result = f"FAILED: {type(error).__name__}: {error}"
    graphs[backend] = result
    return Section(
        f"{backend}: CUDA graph", [f"A training step of clip_loss: {result}."], not result.startswith("FAILED")
    )


def _speed(device: torch.device, parsed: argparse.Namespace, content: dict[str, Any], console: Console) -> Section:
    if device.type != "cuda" or parsed.no_speed:
        content["speed"] = "skipped"
        why = "there is no GPU, and the interpreter's time says nothing" if device.type != "cuda" else "--no-speed"
        return Section("Speed", [f"Skipped: {why}."], None)
    from bench.gpu.speed import OURS, SIZES, Measured, measure_all

    sizes = tuple(size for size in SIZES if not parsed.quick or size[0] == min(n for n, _ in SIZES))
    found: list[Measured] = []
    with console.status("speed") as status:
        for row in measure_all(device, sizes, lambda text: status.update(f"speed: {text}")):
            found.append(row)
            console.print(f"{row.n}x{row.d} {row.dtype} {row.contestant}: {number(row.milliseconds)} ms {row.note}")
    content["speed"] = [row._asdict() for row in found]
    headings = ["N x D", "dtype", "contestant", "ms", "TFLOP/s", "peak MiB", "predicted ms", "without overlap", "note"]
    rows = [
        [f"{r.n} x {r.d}", r.dtype, r.contestant, *(number(x) for x in r[4:9]), r.note]
        for r in found
    ]  # fmt: skip
    lines = [
        "clip_loss, forward + backward. TFLOP/s count three products of 2 N² D for everyone. Peak: above inputs, "
        "gradients included. Predicted: `bench.roofline`, which measures nothing; empty for GPUs it does not list.",
        "",
        *table(headings, rows),
    ]
    ours = [row for row in found if row.contestant == OURS]
    return Section("Speed", lines, all(row.milliseconds is not None for row in ours))


def table(headings: list[str], rows: list[list[str]]) -> list[str]:
    lines = [headings, ["---"] * len(headings), *rows]
    return ["| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines]


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _markdown(info: dict[str, Any], sections: list[Section]) -> str:
    lines = ["# GPU check of contrastive-ops", ""]
    lines += table(["what", "value"], [[key, str(value)] for key, value in info.items() if value is not None])
    for section in sections:
        lines += ["", f"## {section.title}: {section.verdict}", "", *section.lines]
    return "\n".join(lines) + "\n"


def _correct_interpreter() -> None:
    """Triton's interpreter is wrong about bfloat16; the tests put that right."""
    from bench.gpu.matrix import TESTS

    sys.path.insert(0, str(TESTS))
    try:
        from triton_interpreter import correct_bfloat16
    finally:
        sys.path.remove(str(TESTS))
    correct_bfloat16()


if __name__ == "__main__":
    sys.exit(main())

"""The table, the JSON file and the closing sentences."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.cpu.contestants import TRAINING
from bench.cpu.suite import Row, ShapeResult, losses_of_ours, times_over_products

NOISY_SPREAD = 0.10  # peak samples that differ by more than this make the figures of that shape suspect
MIB = 1 << 20


def print_table(console: Console, results: Sequence[ShapeResult]) -> None:
    """One block per shape and mode."""
    table = Table(title="Symmetric CLIP loss, float32", title_justify="left")
    table.add_column("N x D")
    table.add_column("mode")
    table.add_column("contestant")
    for heading in ("median", "GFLOP/s", "of peak", "ours is faster by", "added memory", "rounds"):
        table.add_column(heading, justify="right")
    for result in results:
        previous_mode = ""
        for row in sorted(result.rows, key=lambda row: row.mode):
            starts = row.mode != previous_mode
            if starts and previous_mode:
                table.add_section()
            table.add_row(
                str(result.shape) if starts else "",
                row.mode if starts else "",
                row.contestant.label,
                format_seconds(row.seconds),
                f"{row.gflops:.0f}",
                "-" if row.share is None else f"{row.share:.0%}",
                _ratio_to_ours(result, row),
                "-" if row.added_bytes is None else f"{row.added_bytes / MIB:.0f} MiB",
                str(len(row.samples)),
                style="bold" if row.contestant.name == "ours" else None,
            )
            previous_mode = row.mode
        table.add_section()
    console.print(table)
    console.print(
        "GFLOP/s count three products of 2*N*N*D for everyone (one in forward), whatever is really computed. "
        "Added memory: peak of one training step over what the process held before, gradients included. "
        "Bare products are no loss; out=: into existing tensors. Before each sample of ours runs one untimed step, "
        "as in training: its workspace is kept between steps, and the budgets compared here would evict each other's."
    )


def print_verdict(console: Console, results: Sequence[ShapeResult]) -> None:
    """What was left out, what we lose, and how far to trust it."""
    for result in results:
        for name, reason in result.left_out.items():
            console.print(f"left out: {name} at {result.shape}: {reason}")
    lost = losses_of_ours(results)
    if lost:
        console.print(f"[bold]Ours loses {len(lost)} comparisons:[/bold]")
        for sentence in lost:
            console.print(f"  {sentence}")
    else:
        console.print("[bold]Ours loses no comparison that was made.[/bold]")
    if over := times_over_products(results):
        console.print(f"Our {TRAINING} takes, in times of three bare products (out=): {', '.join(over)}")
    for result in results:
        spread = result.peak_spread
        if spread is not None and spread > NOISY_SPREAD:
            console.print(
                f"[yellow]{result.shape}: the FMA peak beside the samples varied by {spread:.0%} (10th to 90th "
                "percentile): the machine was not quiet and these figures are suspect[/yellow]"
            )
    if not any(result.peaks for result in results):
        console.print("No FMA peak was measured, so nothing says how quiet the machine was.")


def as_json(results: Sequence[ShapeResult], machine: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Everything measured, every sample included."""
    return {
        "machine": machine,
        "settings": settings,
        "shapes": [
            {
                "n": result.shape.n,
                "d": result.shape.d,
                "peak_spread": result.peak_spread,
                "left_out": result.left_out,
                "rows": [
                    {
                        "contestant": row.contestant.name,
                        "label": row.contestant.label,
                        "mode": row.mode,
                        "seconds": row.seconds,
                        "gflops": row.gflops,
                        "share_of_peak": row.share,
                        "over_ours": _over_ours(result, row),
                        "added_bytes": row.added_bytes,
                        "samples_seconds": row.samples,
                        "peaks_gflops": row.peaks,
                    }
                    for row in result.rows
                ],
            }
            for result in results
        ],
        "lost": losses_of_ours(results),
    }


def write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")


def format_seconds(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"


def _over_ours(result: ShapeResult, row: Row) -> float | None:
    """Its time over ours: above 1 we are faster."""
    ours = result.row("ours", row.mode)
    return None if ours is None else row.seconds / ours.seconds


def _ratio_to_ours(result: ShapeResult, row: Row) -> str:
    ratio = _over_ours(result, row)
    if ratio is None or row.contestant.name == "ours":
        return "-"
    text = f"{ratio:.2f}x"
    return text if ratio >= 1 or row.contestant.ours else f"[red]{text}[/red]"

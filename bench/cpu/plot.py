"""The picture: effective rate and added memory of all contestants over the shapes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from bench.cpu.contestants import FORWARD, TRAINING
from bench.cpu.suite import Row, ShapeResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# ours in blues, PyTorch in warm colours, the bare products (no loss) in greys; all told apart without colour vision too
COLOURS = {
    "ours": "#08519c",
    "ours_512": "#4292c6",
    "ours_0": "#9ecae1",
    "dense": "#a63603",
    "compile": "#f16913",
    "linear_ce": "#fdae6b",
    "products_out": "#525252",
    "products": "#969696",
}
PEAK, GRADIENTS = "FMA peak beside the samples", "the gradients alone"
LEGEND_ORDER = (PEAK, GRADIENTS)  # after the contestants


def save_plot(path: Path, results: Sequence[ShapeResult], machine: dict[str, Any]) -> None:
    """Write a PNG with a panel per mode and one for memory, as far as they were measured."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    modes = [m for m in (TRAINING, FORWARD) if any(row.mode == m for result in results for row in result.rows)]
    with_memory = [r for r in results if any(row.added_bytes is not None for row in r.rows)]
    panels = len(modes) + bool(with_memory)
    width = max(8.0, 2.5 + 1.6 * len(results))
    figure, axes = plt.subplots(panels, 1, figsize=(width, 0.9 + 3.3 * panels), squeeze=False, layout="constrained")
    for axis, mode in zip(axes[:, 0], modes, strict=False):
        _draw_rates(axis, results, mode)
    if with_memory:
        _draw_memory(axes[-1, 0], with_memory)
    handles = {
        label: handle for axis in axes[:, 0] for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    labels = sorted(handles, key=lambda label: LEGEND_ORDER.index(label) if label in LEGEND_ORDER else -1)
    figure.legend(
        [handles[label] for label in labels], labels, loc="outside upper center", ncols=int(width / 2.1), frameon=False
    )
    load = ", ".join(map(str, machine["load_average"]))
    figure.supxlabel(
        f"{machine['cpu']}, threads: {machine['threads']}, torch {machine['torch']}, {machine['date']}, "
        f"load at the end {load or 'unknown'}",
        fontsize="small",
        color="0.35",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _draw_rates(axis: Axes, results: Sequence[ShapeResult], mode: str) -> None:
    rows_by_shape = [[row for row in result.rows if row.mode == mode] for result in results]
    # a thin line spans the middle half of the samples
    for row, position, width in _bars(rows_by_shape):
        rates = sorted(row.gflops * row.seconds / sample for sample in row.samples)
        axis.bar(position, row.gflops, width, color=COLOURS[row.contestant.name], label=row.contestant.label)
        quarter = len(rates) // 4
        axis.plot([position] * 2, [rates[quarter], rates[-1 - quarter]], color="black", linewidth=0.8)
    for position, result in enumerate(results):
        if result.peaks:
            axis.plot(
                [position - 0.45, position + 0.45],
                [median(result.peaks)] * 2,
                color="black",
                linestyle="--",
                linewidth=1.2,
                label=PEAK,
            )
    products = "three products" if mode == TRAINING else "one product"
    axis.set_title(f"{mode}: effective rate, higher is better", loc="left", fontsize="medium")
    axis.set_ylabel(f"GFLOP/s ({products})")
    _finish(axis, results)


def _draw_memory(axis: Axes, results: Sequence[ShapeResult]) -> None:
    rows_by_shape = [[row for row in result.rows if row.added_bytes is not None] for result in results]
    for row, position, width in _bars(rows_by_shape):
        mib = (row.added_bytes or 0) / 2**20
        axis.bar(position, mib, width, color=COLOURS[row.contestant.name], label=row.contestant.label)
        axis.annotate(
            f"{mib:.0f}" if mib >= 10 else f"{mib:.1f}",
            (position, mib),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            fontsize="x-small",
        )
    for position, result in enumerate(results):
        axis.plot(
            [position - 0.45, position + 0.45],
            [result.shape.inputs_bytes / 2**20] * 2,
            color="black",
            linestyle=":",
            linewidth=1.2,
            label=GRADIENTS,
        )
    axis.set_yscale("log")
    axis.margins(y=0.12)
    axis.set_title("one training step: added peak memory, lower is better (log scale)", loc="left", fontsize="medium")
    axis.set_ylabel("MiB")
    _finish(axis, results)


def _bars(rows_by_shape: Sequence[Sequence[Row]]) -> list[tuple[Row, float, float]]:
    """(row, x, width): one group per shape in the order of `COLOURS`, every bar as wide as in the fullest group."""
    order = list(COLOURS)
    width = 0.86 / max(len(rows) for rows in rows_by_shape)
    found = []
    for group, rows in enumerate(rows_by_shape):
        ordered = sorted(rows, key=lambda row: order.index(row.contestant.name))
        for place, row in enumerate(ordered):
            found.append((row, group + (place - (len(rows) - 1) / 2) * width, 0.92 * width))
    return found


def _finish(axis: Axes, results: Sequence[ShapeResult]) -> None:
    axis.set_xticks(range(len(results)), [f"N = {r.shape.n}\nD = {r.shape.d}" for r in results])
    axis.set_xlim(-0.6, len(results) - 0.4)
    axis.tick_params(axis="x", length=0)
    axis.grid(axis="y", color="0.9")
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)

"""The picture that sums up a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from code_search_lib.memory import Point
from code_search_lib.retrieval import Scores

OURS, DENSE, RECALL = "#1f5fa8", "#c8553d", "#2f8f5b"
MIB = 2**20


def draw(
    path: Path,
    losses: Sequence[float],
    dense_losses: Sequence[float],
    evaluations: Sequence[tuple[int, Scores]],
    points: Sequence[Point],
    batch_size: int,
    pool: int,
) -> None:
    """Loss and recall over steps; beside them, if measured, peak memory over batch sizes."""
    figure = Figure(figsize=(12 if points else 6.5, 4.6))  # not through pyplot: no display is needed
    axes = figure.subplots(1, 2 if points else 1, squeeze=False)
    _draw_training(axes[0, 0], losses, dense_losses, evaluations, batch_size, pool)
    if points:
        _draw_memory(axes[0, 1], points)
    figure.tight_layout(w_pad=3)
    figure.savefig(path, dpi=150)


def _draw_training(
    axes: Axes,
    losses: Sequence[float],
    dense_losses: Sequence[float],
    evaluations: Sequence[tuple[int, Scores]],
    batch_size: int,
    pool: int,
) -> None:
    axes.set_title(f"Code search, batch {batch_size}", weight="bold")
    steps = range(1, len(losses) + 1)
    lines = axes.plot(steps, losses, color=OURS, lw=2, label="loss, contrastive_ops")
    if dense_losses:
        lines += axes.plot(
            range(1, len(dense_losses) + 1),
            dense_losses,
            "o",
            mfc="none",
            ms=7,
            color=DENSE,
            label="loss, dense PyTorch",
        )
    axes.set(xlabel="step", ylabel="training loss", ylim=(0, None))
    recall = axes.twinx()
    lines += recall.plot(
        [step for step, _ in evaluations],
        [scores.recall_10 for _, scores in evaluations],
        "s--",
        ms=5,
        color=RECALL,
        label=f"recall@10 of {pool} held-out functions",
    )
    recall.set_ylim(0, 1)
    recall.set_ylabel("recall@10", color=RECALL)
    recall.tick_params(axis="y", colors=RECALL)
    recall.spines["right"].set_color(RECALL)
    for part in (axes, recall):
        part.spines["top"].set_visible(False)
    axes.legend(handles=lines, loc="upper right", frameon=False)


def _draw_memory(axes: Axes, points: Sequence[Point]) -> None:
    axes.set_title("Peak memory added by the loss, forward + backward", weight="bold")
    sizes = sorted({point.batch_size for point in points})
    for loss, color, label, offset, side in (
        ("dense", DENSE, "dense PyTorch (stores N x N)", (-5, 5), "right"),
        ("ours", OURS, "contrastive_ops", (0, -16), "center"),
    ):
        measured = sorted((point.batch_size, max(point.bytes, 1) / MIB) for point in points if point.loss == loss)
        if not measured:
            continue
        axes.plot(*zip(*measured, strict=True), "o-", lw=2, color=color, label=label)
        for size, mib in measured:
            text = f"{mib:.{0 if mib >= 10 else 1}f} MiB" if mib < 1024 else f"{mib / 1024:.1f} GiB"
            axes.annotate(
                text, (size, mib), textcoords="offset points", xytext=offset, ha=side, fontsize=9, color=color
            )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.set(xlabel="batch size N", ylabel="MiB")
    axes.margins(x=0.15, y=0.13)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, which="major")
    axes.legend(loc="upper left", frameon=False)

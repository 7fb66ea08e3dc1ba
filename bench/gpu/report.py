"""report.md from the rows so far: what is wrong first, then stage by stage."""

from __future__ import annotations

import os
from itertools import groupby
from pathlib import Path
from typing import Any

from bench.gpu.journal import BAD, ENDED, OK, STARTED, is_result

REPORT = "report.md"
MOST_ROWS = 60  # of a stage in the report; report.jsonl has all
MOST_COLUMNS = 24
HIDDEN = ("stage", "case")  # said by the heading

Row = dict[str, Any]


def write_report(out: Path, title: str, rows: list[Row], is_over: bool) -> None:
    """In one step, so that whoever reads sees a whole one."""
    part = out / f"{REPORT}.part"
    part.write_text(render(title, rows, is_over))
    os.replace(part, out / REPORT)


def render(title: str, rows: list[Row], is_over: bool) -> str:
    stages = list(dict.fromkeys(row["stage"] for row in rows))
    results = [row for row in rows if is_result(row)]
    bad = [row for row in results if row["verdict"] in BAD]
    counts = [f"{sum(row['verdict'] == verdict for row in results)} {verdict}" for verdict in _verdicts(results)]
    state = "" if is_over else " It is still being written, or was stopped."
    lines = [f"# {title}", "", f"{len(results)} results: {', '.join(counts) or 'none yet'}.{state}"]
    if bad:
        lines += ["", "## Wrong or failed", "", *(f"- {progress_line(row)}" for row in bad)]
    for stage in stages:
        lines += _section(stage, [row for row in rows if row["stage"] == stage])
    return "\n".join(lines) + "\n"


def progress_line(row: Row) -> str:
    cells = _cells(row)
    named = [f"{key} {text}" for key, text in cells.items() if key not in ("what", "verdict", "why")]
    parts = [row["what"], *named, row.get("verdict", ""), row.get("why", "")]
    return f"{row['stage']}: " + ", ".join(part for part in parts if part)


def _section(stage: str, rows: list[Row]) -> list[str]:
    results = [row for row in rows if is_result(row)]
    started = next((row for row in rows if row["what"] == STARTED), None)
    ended = next((row for row in rows if row["what"] == ENDED), None)
    run = len({row["case"] for row in results if "case" in row})
    lines = ["", f"## {stage}", ""]
    if started is not None:
        lines.append(f"{run} of {started['cases']} cases" + _end(ended))
    elif ended is not None:
        lines.append(f"{ended['verdict']}: {ended.get('why', 'it did not begin')}")
    shown = results
    if len(results) > MOST_ROWS:
        shown = [row for row in results if row["verdict"] != OK][:MOST_ROWS]
        lines += ["", f"Those that are not ok, {MOST_ROWS} at most, and the worst of the rest:", *_worst(results)]
    for _, alike in groupby(shown, key=lambda row: [key for key in row if key not in HIDDEN]):
        lines += ["", *_table(list(alike))]
    return lines


def _end(ended: Row | None) -> str:
    if ended is None:
        return ", still running or stopped."
    return f" in {_text(ended['seconds'])} s" + ("." if ended["verdict"] == "done" else f": {ended['verdict']}.")


def _worst(results: list[Row]) -> list[str]:
    """The largest of every error by dtype, of what is ok."""
    right = [row for row in results if row["verdict"] == OK]
    errors = sorted({key for row in right for key in row if key.startswith("error_")})
    lines: list[Row] = []
    for dtype in sorted({row.get("dtype", "-") for row in right}):
        alike = [row for row in right if row.get("dtype", "-") == dtype]
        largest = {key: max((row[key] for row in alike if key in row), default=None) for key in errors}
        lines.append({"dtype": dtype, "ok": len(alike), **largest})
    return ["", *_table(lines)] if lines else []


def _table(rows: list[Row]) -> list[str]:
    """A line for each row; rows of very many numbers side by side."""
    cells = [_cells(row) for row in rows]
    keys = list(dict.fromkeys(key for row in cells for key in row))
    lines = [keys, *([row.get(key, "-") for key in keys] for row in cells)]
    if len(keys) > MOST_COLUMNS:
        lines = [list(line) for line in zip(*lines, strict=True)]
    lines.insert(1, ["---"] * len(lines[0]))
    return ["| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines]


def _cells(row: Row) -> dict[str, str]:
    """Its numbers as text, an error and its bound in one cell."""
    cells: dict[str, str] = {}
    for key, value in row.items():
        name = key.removeprefix("bound_")
        if key == f"bound_{name}":
            cells[f"error_{name}"] += f" of {_text(value)}"
        elif key not in HIDDEN:
            cells[key] = _text(value)
    return cells


def _verdicts(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(row["verdict"] for row in rows))


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    return " ".join(str(value).split())

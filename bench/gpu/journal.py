"""report.jsonl: one row a line, written at once by whoever has it, so that who is killed loses only what is running."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

JOURNAL = "report.jsonl"
OK, WRONG, FAILED, SKIPPED, STOPPED = "ok", "WRONG", "failed", "skipped", "stopped"
BAD = (WRONG, FAILED)
STARTED, ENDED = "stage started", "stage ended"  # `what` of the rows that are no results


def append(out: Path, row: dict[str, Any]) -> None:
    with open(out / JOURNAL, "a") as journal:
        journal.write(json.dumps(row, default=str) + "\n")


def read(out: Path) -> list[dict[str, Any]]:
    """All rows so far; a line that is still being written is left for the next time."""
    path = out / JOURNAL
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def is_result(row: dict[str, Any]) -> bool:
    return row["what"] not in (STARTED, ENDED)

"""A stage: cases that one process runs, within a limit of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple


class Stage(NamedTuple):
    name: str
    cases: str  # "module:function": called with the setting and `given`, it returns the list of cases
    seconds: float  # its limit where the budget is the default one; another budget stretches all limits
    given: dict[str, Any] = {}  # noqa: RUF012  # never changed


Round = tuple[Stage, ...]  # stages that run at the same time


class Order(NamedTuple):
    """What the runner asks of a process."""

    stage: str
    cases: str
    given: dict[str, Any]
    device: str
    out: str
    deadline: float  # seconds of the clock of day
    first: int  # cases before it are done

    @property
    def running(self) -> Path:
        """A file that names the case which is running, for whoever finds the process dead."""
        return Path(self.out, "logs", f"{self.stage}.running.json")

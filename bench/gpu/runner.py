"""Runs stages as processes with a limit each, and keeps the report up to date while they write their rows."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from bench import REPOSITORY
from bench.gpu import journal
from bench.gpu.journal import ENDED, FAILED, SKIPPED, STARTED, STOPPED
from bench.gpu.report import progress_line, write_report
from bench.gpu.stage import Order, Round, Stage

POLL_SECONDS = 0.2
GRACE_SECONDS = 2.0  # a process ends itself at its limit and writes down where it was
LEAST_SECONDS = 5.0  # a stage that has less is not begun
RESTARTS = 3  # of a stage whose process died, from the case after the one that killed it


class Running:
    """A stage at work."""

    def __init__(self, stage: Stage, seconds: float, device: str, out: Path, environment: dict[str, str]) -> None:
        self.stage, self.seconds, self.device, self.out, self.environment = stage, seconds, device, out, environment
        self.begun = time.monotonic()
        self.restarts = 0
        self.process = self._start(first=0)

    def _start(self, first: int) -> subprocess.Popen[bytes]:
        name, cases, _, given = self.stage
        self.order = Order(name, cases, given, self.device, str(self.out), time.time() + self._left(), first)
        self.order.running.unlink(missing_ok=True)
        with open(self.out / "logs" / f"{name}.log", "ab") as log:
            return subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "bench.gpu.process", json.dumps(self.order._asdict())],
                cwd=REPOSITORY,
                env=os.environ | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # so that it ends with all that it has started
            )

    def _left(self) -> float:
        return self.seconds - (time.monotonic() - self.begun)

    def has_ended(self) -> bool:
        """Whether it is over; a process that died is followed by one that goes on after the case that killed it."""
        status = self.process.poll()
        if status is None and self._left() > -GRACE_SECONDS:
            return False
        self.stop()
        if status == 0:
            self._close("done" if self._cases_done() == self._cases() else STOPPED)
            return True
        if status is None or self._left() <= 0:
            why = f"stopped after {self.seconds:.0f} s, the limit of the stage; logs/{self.stage.name}.log says where"
            self._lost_case(STOPPED, why)
            self._close(STOPPED)
            return True
        lost = self._lost_case(FAILED, _last_words(status, self.out / "logs" / f"{self.stage.name}.log"))
        if lost is None or self.restarts == RESTARTS or self._left() < LEAST_SECONDS:
            self._close(FAILED)
            return True
        self.restarts += 1
        self.process = self._start(first=lost + 1)
        return False

    def stop(self) -> None:
        """Nothing of it stays behind, whatever it had started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):  # it hangs in the driver
            self.process.wait(timeout=5)

    def _lost_case(self, verdict: str, why: str) -> int | None:
        """The number of the case that was running when the process ended, reported unless it reported itself."""
        try:
            running = json.loads(self.order.running.read_text())
        except (OSError, ValueError):  # it had not begun one
            journal.append(self.out, {"stage": self.stage.name, "what": "stage", "verdict": verdict, "why": why})
            return None
        number: int = running["case"]
        if number not in self._numbers():
            journal.append(self.out, {"stage": self.stage.name, **running, "verdict": verdict, "why": why})
        return number

    def _close(self, verdict: str) -> None:
        row = {"stage": self.stage.name, "what": ENDED, "verdict": verdict, "cases_run": self._cases_done()}
        seconds = round(time.monotonic() - self.begun, 1)
        journal.append(self.out, {**row, "cases": self._cases(), "seconds": seconds})
        self.order.running.unlink(missing_ok=True)

    def _rows(self) -> list[dict[str, Any]]:
        return [row for row in journal.read(self.out) if row["stage"] == self.stage.name]

    def _numbers(self) -> set[int]:
        return {row["case"] for row in self._rows() if "case" in row}

    def _cases_done(self) -> int:
        return len(self._numbers())

    def _cases(self) -> int | None:
        return next((row["cases"] for row in self._rows() if row["what"] == STARTED), None)


def _last_words(status: int, log: Path) -> str:
    ended = f"signal {-status}" if status < 0 else f"exit status {status}"
    said = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f"the process ended with {ended}: {(said or ['it said nothing'])[-1].strip()[:200]}"


def run(
    title: str,
    rounds: Sequence[Round],
    *,
    device: str,
    out: Path,
    seconds: float,
    stretch: float = 1.0,
    environment: dict[str, str] | None = None,
    say: Callable[[str], None] = print,
) -> int:
    """Round after round within `seconds`; the limits of the stages times `stretch`. 1 if anything was wrong."""
    end = time.monotonic() + seconds
    shutil.rmtree(out / "logs", ignore_errors=True)
    (out / "logs").mkdir(parents=True)
    (out / journal.JOURNAL).write_text("")
    running: list[Running] = []
    said = 0

    def update(is_over: bool = False) -> None:
        nonlocal said
        rows = journal.read(out)
        if len(rows) > said or is_over:
            for row in rows[said:]:
                say(progress_line(row))
            said = len(rows)
            write_report(out, title, rows, is_over)

    def end_by_signal(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)  # through the `finally` below

    before = signal.signal(signal.SIGTERM, end_by_signal)
    try:
        update(is_over=not rounds)
        for stages in rounds:
            for stage in stages:
                limit = min(stage.seconds * stretch, end - GRACE_SECONDS - time.monotonic())
                if limit < LEAST_SECONDS:
                    row = {"stage": stage.name, "what": ENDED, "verdict": SKIPPED, "why": "no time left of the budget"}
                    journal.append(out, row)
                else:
                    running.append(Running(stage, limit, device, out, environment or {}))
            while running:
                running = [stage for stage in running if not stage.has_ended()]
                update()
                time.sleep(POLL_SECONDS if running else 0)
            update()
        update(is_over=True)
    finally:
        for stage_at_work in running:
            stage_at_work.stop()
        signal.signal(signal.SIGTERM, before)
    bad = [row for row in journal.read(out) if row.get("verdict") in journal.BAD]
    return 1 if bad else 0

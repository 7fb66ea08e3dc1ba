"""compute-sanitizer over a small step that launches every kernel of the CUDA C++ backend."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from functools import partial

from bench import REPOSITORY
from bench.gpu.case import Case, Row, Setting, Skipped
from bench.gpu.journal import OK, WRONG

TOOLS = ("memcheck", "racecheck", "synccheck")
PROGRAM = "compute-sanitizer"
FOUND = 9  # exit status that we ask for
# an allocation per tensor: what lies beyond one is then no tensor
ENVIRONMENT = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}


def cases(setting: Setting, each: float) -> list[Case]:
    return [
        Case({"what": PROGRAM, "tool": tool, "backend": "cuda"}, partial(_check, setting, tool, each)) for tool in TOOLS
    ]


def _check(setting: Setting, tool: str, each: float) -> Row:
    setting.needs_gpu()
    if shutil.which(PROGRAM) is None:
        raise Skipped("not found")
    command = [PROGRAM, "--tool", tool, "--error-exitcode", str(FOUND), sys.executable]
    log = setting.out / "logs" / f"{tool}.txt"
    try:
        with open(log, "w") as output:
            done = subprocess.run(
                [*command, "-W", "ignore", "-m", "bench.gpu.small_step", "cuda"],
                cwd=REPOSITORY,
                env=os.environ | ENVIRONMENT,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=each,
            )
    except subprocess.TimeoutExpired:
        raise Skipped(f"not finished after {each:.0f} s: logs/{log.name} says how far it came") from None
    text = log.read_text(errors="replace")
    if done.returncode not in (0, FOUND):
        raise RuntimeError(f"exit status {done.returncode}: {(text.splitlines() or [''])[-1]}")
    return {"said": _summary(text), "log": f"logs/{log.name}", "verdict": OK if done.returncode == 0 else WRONG}


def _summary(text: str) -> str:
    """The line that counts the errors."""
    summaries = re.findall(r"(?:ERROR|RACECHECK) SUMMARY: (.*)", text)
    return summaries[-1] if summaries else ""

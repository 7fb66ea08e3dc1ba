"""Nsight Compute over three kernels of a large step: what the units of the GPU were busy with."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
import sys
from functools import partial

from bench import REPOSITORY
from bench.gpu.case import Case, Row, Setting, Skipped

KERNELS = {"macro_product": 80, "macro_gradient": 80, "reduce_fwd": 2}  # launches of warming up that are skipped
SECTIONS = (
    "SpeedOfLight",
    "ComputeWorkloadAnalysis",
    "MemoryWorkloadAnalysis",
    "Occupancy",
    "LaunchStats",
    "WarpStateStats",
)
SHAPE = "16384x768"


def cases(setting: Setting, backend: str, each: float) -> list[Case]:
    return [
        Case(
            {"what": "ncu", "backend": backend, "kernel": kernel, "shape": SHAPE},
            partial(_profile, setting, backend, kernel, skipped, each),
        )
        for kernel, skipped in KERNELS.items()
    ]


def _profile(setting: Setting, backend: str, kernel: str, skipped: int, each: float) -> list[Row]:
    """A row for each launch; everything that ncu said is in the log."""
    setting.needs_gpu()
    if shutil.which("ncu") is None:
        raise Skipped("not found")
    log = setting.out / "logs" / f"ncu-{backend}-{kernel}.csv"
    # clocks are left as they are
    command = ["ncu", "--csv", "--clock-control", "none", "-k", f"regex:{kernel}", "-s", str(skipped), "-c", "2"]
    command += [part for section in SECTIONS for part in ("--section", section)]
    try:
        with open(log, "w") as output:
            done = subprocess.run(
                [*command, sys.executable, "-W", "ignore", "-m", "bench.gpu.small_step", backend, SHAPE],
                cwd=REPOSITORY,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=each,
            )
    except subprocess.TimeoutExpired:
        raise Skipped(f"not finished after {each:.0f} s") from None
    rows = parse(log.read_text(errors="replace"))
    if done.returncode or not rows:
        raise RuntimeError(f"exit status {done.returncode}, {len(rows)} launches: logs/{log.name}")
    return rows


def parse(text: str) -> list[Row]:
    """The metrics of each launch in the CSV between ncu's own lines, their units in the keys."""
    lines = [line for line in text.splitlines() if line.startswith('"')]
    launches: dict[str, Row] = {}
    for line in csv.DictReader(lines):
        if not line.get("Metric Name"):
            continue  # advice, not a number
        value = line["Metric Value"].replace(",", "")
        name = " ".join(filter(None, (line["Metric Name"], line["Metric Unit"])))
        launches.setdefault(line["ID"], {})[_key(name)] = float(value) if re.fullmatch(r"-?[\d.]+", value) else value
    return list(launches.values())


def _key(name: str) -> str:
    return re.sub(r"\W+", "_", name.replace("%", "percent").replace("/", " per ")).strip("_").lower()

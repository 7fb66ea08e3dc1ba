"""Do the versions of triton and torch that the README names work? Makes an environment for each, and a table.

    python tests/versions.py                      all of them (`make versions`)
    python tests/versions.py triton-3.6.0 torch-2.8.0
    python tests/versions.py --smoke              what `make test` holds: the oldest and the newest triton, briefly
    python tests/versions.py --smoke --write-baseline    and notes in tests/versions_passed.json what passed

A triton is installed into a folder of its own and put before the environment's; a torch into a virtual environment.
Both import contrastive_ops from this checkout, so the native module must be built in place.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from sampled import is_sampled

TESTS = Path(__file__).resolve().parent
REPOSITORY = TESTS.parent
PASSED = TESTS / "versions_passed.json"
# whatever a check of triton executes of this repository
SOURCES = (
    "triton_kernels/**/*.py",
    "contrastive_ops/*.py",
    "contrastive_ops/backends/**/*.py",
    "contrastive_ops/ops/**/*.py",
    "contrastive_ops/reductions/**/*.py",
    "tests/triton_*.py",
    "tests/test_triton.py",
)
ENVIRONMENTS = REPOSITORY / ".versions"

ARCHITECTURES = ("sm_80", "sm_86", "sm_90", "sm_100", "gfx942")
LAUNCHED = ("sm_80", "sm_90", "sm_100", "gfx942")
# spilling instructions of a kernel: none with the tritons that the tiles were chosen with
SPILLS_ALLOWED = {"3.6.0": 12, "3.7.1": 6, "3.8.0": 0, "3.9.0": 0}
TRITONS = tuple(SPILLS_ALLOWED)
OLDEST_AND_NEWEST = (TRITONS[0], TRITONS[-1])
# megabytes on the disk, which pip downloads packed: PyPI's builds of torch bring CUDA libraries and a triton
TORCHES = {"2.4.1": 5100, "2.8.0": 6600, "2.11.0": 4800, "2.14.1": 5500}
TRITON_MEGABYTES = 800
MINUTES = {"triton": 3.0, "torch": 0.5}  # of checks, on two cores
PARALLEL = 2  # checks at a time


class Check(NamedTuple):
    """One command in one environment; `judge` says in a few words what came out, and raises where it is wrong."""

    column: str
    row: str
    command: list[str]
    environment: dict[str, str]
    judge: Callable[[str], str]

    @property
    def name(self) -> str:
        return f"{self.column}: {self.row}"


class Verdict(NamedTuple):
    column: str
    row: str
    text: str
    is_right: bool
    seconds: float


# --- environments ---


def triton_folder(version: str) -> Path:
    """The folder that goes onto PYTHONPATH; installed once."""
    folder = ENVIRONMENTS / f"triton-{version}"
    if not (folder / "done").exists():
        pip(sys.executable, "--no-deps", "--target", str(folder), f"triton=={version}")
        (folder / "done").touch()
    return folder


def torch_python(version: str) -> Path:
    """The interpreter of a virtual environment; made once."""
    folder = ENVIRONMENTS / f"torch-{version}"
    python = folder / "bin/python"
    if not (folder / "done").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip(str(python), f"torch=={version}", "numpy")
        (folder / "done").touch()
    return python


def pip(python: str, *arguments: str) -> None:
    quiet = ["--quiet", "--disable-pip-version-check", "--no-warn-conflicts"]
    # the pins of this environment are not those of the versions under test
    environment = {name: value for name, value in os.environ.items() if name != "PIP_CONSTRAINT"}
    subprocess.run([python, "-m", "pip", "install", *quiet, *arguments], check=True, env=environment)


# --- what has passed ---


def digest() -> str:
    """Of the sources that a check executes, and of the versions that stay."""
    found = hashlib.sha256(f"{sys.version} {version('torch')}".encode())
    for path in sorted({path for pattern in SOURCES for path in REPOSITORY.glob(pattern)}):
        found.update(f"{path.relative_to(REPOSITORY)}\n{path.read_text(encoding='utf-8')}".encode())
    return found.hexdigest()[:16]


def due(checks: list[Check], seed: str) -> list[Check]:
    """All, where nothing has passed as things are; else an eighth, which another seed draws anew."""
    passed = json.loads(PASSED.read_text()) if PASSED.exists() else {}
    known = passed.get("checks", []) if passed.get("digest") == digest() else []
    return [check for check in checks if check.name not in known or is_sampled(check.name, seed)]


def write_passed(verdicts: list[Verdict]) -> None:
    names = [f"{verdict.column}: {verdict.row}" for verdict in verdicts if verdict.is_right]
    PASSED.write_text(json.dumps({"digest": digest(), "checks": names}, indent=1) + "\n")


# --- checks ---


def triton_checks(version: str, is_smoke: bool) -> Iterator[Check]:
    folder = triton_folder(version)
    column, python = f"triton-{version}", sys.executable
    path = {"PYTHONPATH": os.pathsep.join((str(folder), str(REPOSITORY)))}
    only = ["--only", r"(statistics \(both sides\)|macro_gradient \(block\)) bf16 D=1024"] if is_smoke else []
    for arch in ("sm_90",) if is_smoke else ARCHITECTURES:
        compile_all = [python, str(TESTS / "triton_compiled.py"), arch, "--json", *only]
        yield Check(column, f"compiles for {arch}", compile_all, path, judge_compiled(SPILLS_ALLOWED[version]))
    for arch in ("sm_90", "gfx942") if is_smoke else LAUNCHED:
        launch = [python, str(TESTS / "triton_launcher.py"), arch, *(["--brief"] if is_smoke else [])]
        yield Check(column, f"launches on {arch}", launch, path, judge_launched)
    interpret = path | {"TRITON_INTERPRET": "1"}
    selected = "test_edges or test_tensor_descriptors or test_volumes" if not is_smoke else "test_run_twice"
    pytest = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    interpreted = [*pytest, str(TESTS / "test_triton.py"), "-k", selected]
    yield Check(column, "interpreted", interpreted, interpret, judge_pytest)


def torch_checks(version: str) -> Iterator[Check]:
    command = [str(torch_python(version)), "-W", "ignore", str(TESTS / "torch_smoke.py")]
    yield Check(f"torch-{version}", "losses on the CPU", command, {"PYTHONPATH": str(REPOSITORY)}, judge_torch)


def judge_compiled(allowed: int) -> Callable[[str], str]:
    def judge(output: str) -> str:
        found = json.loads(output.splitlines()[-1])
        spills = {key: figures["spills"] for key, figures in found.items() if figures["spills"]}
        assert found, "nothing was compiled"
        assert not any(count > allowed for count in spills.values()), f"more than {allowed} spills: {spills}"
        most = f", {len(spills)} with up to {max(spills.values())} spills" if spills else ""
        return f"{len(found)} kernels{most}"

    return judge


def judge_launched(output: str) -> str:
    found = json.loads(output.splitlines()[-1])
    assert len(found["launches"]) == 6, f"not every kernel was launched: {found['launches']}"
    # each descriptor became a tensor map, but on AMD and before sm_90, which have none
    has_maps = found["arch"] in ("sm_90", "sm_100")
    assert found["tensor_maps"] == found["descriptors"] and bool(found["descriptors"]) == has_maps, output
    return f"{sum(found['launches'].values())} launches"


def judge_pytest(output: str) -> str:
    return output.strip().splitlines()[-1].strip("= ").partition(" in ")[0]


def judge_torch(output: str) -> str:
    found = json.loads(output.splitlines()[-1])
    assert found["gpu"] == "triton" or found["warnings"], f"{found['gpu']} without a word of what triton lacks"
    compiled = "one graph" if any("compiled" in what for what in found["errors"]) else "not compiled"
    return f"{len(found['errors'])} checks, {compiled}; a GPU gets {found['gpu']}"


def run(check: Check) -> Verdict:
    start = time.monotonic()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TRITON_")}
    done = subprocess.run(
        check.command, capture_output=True, text=True, cwd=REPOSITORY, env=environment | check.environment
    )
    seconds = time.monotonic() - start
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        return Verdict(check.column, check.row, f"FAILED: {last[:200]}", False, seconds)
    try:
        return Verdict(check.column, check.row, check.judge(done.stdout), True, seconds)
    except (AssertionError, ValueError) as error:
        return Verdict(check.column, check.row, f"FAILED: {str(error)[:200]}", False, seconds)


# --- the command ---


def announce(columns: list[str]) -> None:
    new = [column for column in columns if not (ENVIRONMENTS / column / "done").exists()]
    megabytes = sum(TORCHES[c.removeprefix("torch-")] if c.startswith("torch") else TRITON_MEGABYTES for c in new)
    minutes = sum(MINUTES[column.partition("-")[0]] for column in columns)
    print(", ".join(columns))
    print(
        f"Installs {megabytes / 1000:.1f} GB into .versions, then takes {minutes:.1f} minutes on two cores", flush=True
    )


def table(verdicts: list[Verdict]) -> str:
    lines = ["| version | check | result | seconds |", "|---|---|---|---|"]
    lines += [f"| {v.column} | {v.row} | {v.text.replace('|', '/')} | {v.seconds:.0f} |" for v in verdicts]
    return "\n".join(lines)


def checks_of(columns: list[str], is_smoke: bool = False) -> list[Check]:
    checks: list[Check] = []
    for column in columns:
        kind, _, number = column.partition("-")
        checks += triton_checks(number, is_smoke) if kind == "triton" else torch_checks(number)
    return checks


def run_all(checks: list[Check]) -> list[Verdict]:
    verdicts = []
    with ThreadPoolExecutor(PARALLEL) as pool:
        for verdict in pool.map(run, checks):
            verdicts.append(verdict)
            print(f"{verdict.column}: {verdict.row}: {verdict.text} ({verdict.seconds:.0f} s)", flush=True)
    return verdicts


def main() -> int:
    known = [*(f"triton-{version}" for version in TRITONS), *(f"torch-{version}" for version in TORCHES)]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("columns", nargs="*", metavar="VERSION", help=f"of {', '.join(known)}")
    parser.add_argument("--smoke", action="store_true", help="the oldest and the newest triton, briefly")
    parser.add_argument("--write-baseline", action="store_true", help="with --smoke")
    options = parser.parse_args()
    if unknown := [column for column in options.columns if column not in known]:
        parser.error(f"versions are {', '.join(known)}, got {', '.join(unknown)}")
    columns = [f"triton-{version}" for version in OLDEST_AND_NEWEST] if options.smoke else options.columns or known
    announce(columns)
    verdicts = run_all(checks_of(columns, options.smoke))
    print(table(verdicts))
    if options.write_baseline:
        write_passed(verdicts)
    return 0 if all(verdict.is_right for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())

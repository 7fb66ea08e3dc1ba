"""Do the tests notice faults? Plants those of mutation_table.py, one at a time, and runs the tests that reach them.

    python tests/mutations.py                       all of the table
    python tests/mutations.py --only 'triton|mask'  those whose name matches
    python tests/mutations.py --suite-of REV        and for what survives: does the whole suite of REV notice it there?

Sources are changed in git worktrees of HEAD, built there, and removed; this checkout is left as it is, and what is not
committed does not count. A place that is not found, and a mutation that does not compile, is an error. Status 1: one
survived or was an error.
"""

from __future__ import annotations

import argparse
import os
import queue
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from mutation_table import MUTATIONS, REACHED_BY, Mutation, Place

REPOSITORY = Path(__file__).resolve().parent.parent
KILLED, SURVIVED, ERROR = "killed", "SURVIVED", "ERROR"
TIMEOUT = 900.0  # seconds: a kernel that waits for ever is noticed
FAILED_TESTS = 1  # status of pytest


class Outcome(NamedTuple):
    mutation: Mutation
    verdict: str
    by: str  # the test that noticed, or what went wrong
    seconds: float


# --- places -----------------------------------------------------------------------------------------------------------


def pattern_of(text: str) -> re.Pattern[str]:
    """Its tokens, with any white space between them."""
    return re.compile(r"\s*".join(map(re.escape, re.findall(r"\w+|[^\w\s]", text))))


def find(tree: Path, mutation: Mutation) -> tuple[Place, re.Match[str]]:
    """The one place in this tree; LookupError where there is none, or more."""
    counts = []
    for place in mutation.places:
        path = tree / place.path
        found = list(pattern_of(place.text).finditer(path.read_text())) if path.exists() else []
        if len(found) == 1:
            return place, found[0]
        counts.append(f"{len(found)} times in {place.path}" if path.exists() else f"no {place.path}")
    raise LookupError(f"{mutation.name}: expected its text once, got {', '.join(counts)}")


@contextmanager
def planted(tree: Path, mutation: Mutation) -> Iterator[None]:
    place, match = find(tree, mutation)
    path = tree / place.path
    before = path.read_text()
    path.write_text(before[: match.start()] + place.instead + before[match.end() :])
    try:
        yield
    finally:
        path.write_text(before)


# --- trees ------------------------------------------------------------------------------------------------------------


@contextmanager
def worktree(revision: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        git = ["git", "-C", str(REPOSITORY), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(tree), revision], check=True)
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def in_tree(tree: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Without optimisation that takes the compiler long, and without CUDA: its kernels run on the emulator."""
    changes = {"PYTHONPATH": str(tree), "CXXFLAGS": "-O1", "CONTRASTIVE_OPS_CUDA": "0", "OMP_WAIT_POLICY": "passive"}
    return subprocess.run(
        [sys.executable, *command],
        cwd=tree,
        env=os.environ | changes,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


def build(tree: Path) -> None:
    """The native module; that of the emulator is built by the tests."""
    made = in_tree(tree, "setup.py", "-q", "build_ext", "--inplace")
    if made.returncode:
        raise RuntimeError(f"does not compile: {last_line(made.stdout)}")


def last_line(output: str) -> str:
    return (output.strip().splitlines() or ["no output"])[-1][:160]


# --- verdicts ---------------------------------------------------------------------------------------------------------


def judge(tree: Path, mutation: Mutation, tests: Sequence[str]) -> Outcome:
    start = time.monotonic()

    def outcome(verdict: str, by: str) -> Outcome:
        return Outcome(mutation, verdict, by, time.monotonic() - start)

    try:
        with planted(tree, mutation):
            if mutation.language == "cpu":
                build(tree)
            run = in_tree(tree, "-m", "pytest", "-q", "-x", "--tb=no", "-p", "no:cacheprovider", *tests)
    except subprocess.TimeoutExpired:
        return outcome(KILLED, f"nothing came back in {TIMEOUT:.0f} s")
    except (LookupError, RuntimeError) as error:
        return outcome(ERROR, str(error))
    if run.returncode == 0:
        return outcome(SURVIVED, last_line(run.stdout))
    if run.returncode == FAILED_TESTS and (failed := re.search(r"^(?:FAILED|ERROR) (\S+)", run.stdout, re.MULTILINE)):
        return outcome(KILLED, failed[1].removeprefix("tests/"))
    if run.returncode < 0:
        return outcome(KILLED, f"the process ended by signal {-run.returncode}")
    return outcome(ERROR, last_line(run.stdout))


def must_pass(tree: Path, languages: Sequence[str]) -> None:
    """Without a mutation: what fails then would be taken for a test that notices."""
    for language in languages:
        run = in_tree(tree, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *REACHED_BY[language])
        if run.returncode:
            sys.exit(f"the tests of {language} fail without a mutation:\n{run.stdout[-2000:]}")
        print(f"without a mutation, {language}: {last_line(run.stdout)}", flush=True)


def judge_all(mutations: Sequence[Mutation], jobs: int) -> list[Outcome]:
    """In as many worktrees as there are jobs."""
    free: queue.Queue[Path] = queue.Queue()

    def one(mutation: Mutation) -> Outcome:
        tree = free.get()
        try:
            outcome = judge(tree, mutation, REACHED_BY[mutation.language])
        finally:
            free.put(tree)
        print(f"{outcome.verdict:8} {outcome.seconds:4.0f} s  {mutation.name}: {outcome.by}", flush=True)
        return outcome

    with ExitStack() as stack, ThreadPoolExecutor(jobs) as pool:
        trees = [stack.enter_context(worktree("HEAD")) for _ in range(jobs)]
        list(pool.map(build, trees))
        languages = list(dict.fromkeys(mutation.language for mutation in mutations))
        list(pool.map(must_pass, trees, (languages[k::jobs] for k in range(jobs))))
        for tree in trees:
            free.put(tree)
        return list(pool.map(one, mutations))


def judge_by_suite_of(revision: str, mutations: Sequence[Mutation]) -> list[Outcome]:
    with worktree(revision) as tree:
        build(tree)
        return [judge(tree, mutation, ["-n", "auto", "tests"]) for mutation in mutations]


def table(outcomes: Sequence[Outcome]) -> str:
    lines = ["| mutation | verdict | by | seconds |", "|---|---|---|---|"]
    return "\n".join(lines + [f"| {x.mutation.name} | {x.verdict} | {x.by} | {x.seconds:.0f} |" for x in outcomes])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="REGEX")
    parser.add_argument("--suite-of", metavar="REV")
    parser.add_argument("--jobs", type=int, default=2, help="worktrees at a time; %(default)s by default")
    options = parser.parse_args()
    chosen = [mutation for mutation in MUTATIONS if re.search(options.only, mutation.name)]
    missing = []
    for mutation in chosen:
        try:
            find(REPOSITORY, mutation)
        except LookupError as error:
            missing.append(str(error))
    if missing:
        print("\n".join(missing), file=sys.stderr)
        return 1
    outcomes = judge_all(chosen, options.jobs)
    print(table(outcomes))
    survivors = [outcome.mutation for outcome in outcomes if outcome.verdict == SURVIVED]
    if options.suite_of and survivors:
        print(f"\nBy the suite of {options.suite_of}:\n{table(judge_by_suite_of(options.suite_of, survivors))}")
    return 0 if all(outcome.verdict == KILLED for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())

"""Source trees with their own build of the CPU kernels."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import REPOSITORY


def commit_of(rev: str) -> str:
    """The hash of what git knows under this name; ValueError if it knows none."""
    found = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{rev}^{{commit}}", check=False)
    if found.returncode:
        raise ValueError(f"expected a commit, branch or tag of {REPOSITORY}, got {rev!r}")
    return found.stdout.strip()


@contextmanager
def worktree(commit: str) -> Iterator[Path]:
    """The files of a commit, in a folder that is gone afterwards."""
    with TemporaryDirectory(prefix="contrastive-ops-") as folder:
        tree = Path(folder, commit[:12])
        _git("worktree", "add", "--quiet", "--detach", str(tree), commit)
        try:
            yield tree
        finally:
            _git("worktree", "remove", "--force", str(tree))


def build(tree: Path) -> None:
    """The CPU kernels in place. Nothing is compiled twice in a tree that stays."""
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    subprocess.run(command, cwd=tree, env=os.environ | {"CONTRASTIVE_OPS_CUDA": "0"}, check=True)


def _git(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], cwd=REPOSITORY, check=check, stdout=subprocess.PIPE, text=True)

"""Python started in a clone that is not built: what is imported is said, and what to do."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from contrastive_ops import backends
from contrastive_ops.backends import cpu

PACKAGE = Path(backends.__file__).parent.parent


def output_of(directory, script):
    environment = {name: value for name, value in os.environ.items() if name not in ("TRITON_INTERPRET", "PYTHONPATH")}
    process = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=directory, env=environment
    )
    assert process.returncode == 0, process.stderr
    return process.stdout + process.stderr


SCRIPT = """
import sys
# an editable installation would lend its own extension to this copy
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
import torch, contrastive_ops
x = torch.eye(3)
contrastive_ops.clip_loss(x, x.clone(), 2.0)
contrastive_ops.clip_loss(x, x.clone(), 2.0)
try:
    contrastive_ops.clip_loss(x, x.clone(), 2.0, backend="cpu")
except ValueError as error:
    print("refused:", error)
"""


@pytest.fixture
def unbuilt(tmp_path):
    """The package without its extensions."""
    shutil.copytree(PACKAGE, tmp_path / "contrastive_ops", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    return tmp_path


def test_a_source_tree_names_itself_and_both_remedies(unbuilt):
    (unbuilt / "setup.py").touch()
    said = output_of(unbuilt, SCRIPT)
    place = f"imported from the source tree {unbuilt}"
    for part in (place, "pip install -e .", "another directory"):
        assert part in said.partition("refused:")[2], part
    warned = said.partition("RuntimeWarning: ")[2]
    assert place in warned and warned.count("is used") == 1  # once


def test_an_installed_copy_names_itself_and_its_remedy(unbuilt):
    said = output_of(unbuilt, SCRIPT)
    assert f"imported from {unbuilt}" in said and "reinstall with a C++17 compiler" in said
    assert "source tree" not in said


def test_a_built_copy_misses_nothing():
    assert cpu.CpuBackend().missing() is None

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


WITHOUT_LENDERS = """
import sys
# an editable installation would lend its own extension to this copy
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
"""

LENT = """
import importlib.util, sys

class Editable:  # what setuptools installs for an editable copy: it knows where each module is
    def find_spec(self, name, path=None, target=None):
        if name in LENT:
            return importlib.util.spec_from_file_location(name, LENT[name])

sys.meta_path = [f for f in sys.meta_path if "editable" not in repr(f).lower()] + [Editable()]
"""

SCRIPT = """
import torch, contrastive_ops
x = torch.eye(3)
contrastive_ops.clip_loss(x, x.clone(), 2.0)
contrastive_ops.clip_loss(x, x.clone(), 2.0)
for backend in ("cpu", "cuda"):
    try:
        contrastive_ops.clip_loss(x, x.clone(), 2.0, backend=backend)
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
    said = output_of(unbuilt, WITHOUT_LENDERS + SCRIPT)
    place = f"imported from the source tree {unbuilt}"
    for part in (place, "pip install -e .", "another directory"):
        assert part in said.partition("refused:")[2], part
    warned = said.partition("RuntimeWarning: ")[2]
    assert place in warned and warned.count("is used") == 1  # once


def test_an_installed_copy_names_itself_and_its_remedy(unbuilt):
    said = output_of(unbuilt, WITHOUT_LENDERS + SCRIPT)
    assert f"imported from {unbuilt}" in said and "reinstall with a C++17 compiler" in said
    assert "source tree" not in said


def test_the_extension_of_another_copy_is_not_taken(unbuilt):
    lent = {f"contrastive_ops.{path.name.partition('.')[0]}": str(path) for path in PACKAGE.glob("*.so")}
    said = output_of(unbuilt, f"LENT = {lent}" + LENT + SCRIPT)
    refused = said.partition("refused:")[2]
    of_cpu, _, of_cuda = refused.partition("refused:")
    for part in (f"imported from {unbuilt}", f"that of another copy, {PACKAGE}", "reinstall with a C++17 compiler"):
        assert part in of_cpu, part
    if "contrastive_ops._cuda" in lent:
        assert f"imported from {unbuilt}" in of_cuda and f"that of another copy, {PACKAGE}" in of_cuda
    assert "RuntimeWarning: " in said  # and not by default either


def test_a_built_copy_misses_nothing():
    assert cpu.CpuBackend().missing() is None

"""The documents' code runs, and the support table is the one that the backends give."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from contrastive_ops import similarity_statistics
from contrastive_ops.backends import BACKENDS

REPOSITORY = Path(__file__).parent.parent


def python_blocks(name):
    text = (REPOSITORY / name).read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    assert blocks, f"{name} has no python blocks"
    return blocks


@pytest.mark.parametrize("number", range(len(python_blocks("README.md"))))
def test_readme_block_runs_on_its_own(number):
    exec(compile(python_blocks("README.md")[number], f"README.md, block {number}", "exec"), {"__name__": "readme"})


STAND_IN_FOR_CONFTEST = """
import pytest

from contrastive_ops import similarity_statistics
from contrastive_ops.backends import BACKENDS
import torch

@pytest.fixture(params=["reference", "eager"])
def backend(request):
    return request.param
"""


def test_a_loss_is_added_by_the_letter(tmp_path):
    """Every step of docs/adding_a_loss.md is done in a copy of the repository, whose tests then take the loss up."""
    for folder in ("contrastive_ops", "tests/objectives"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("test_objectives.py", "test_memory.py", "comparison.py", "dense_losses.py"):
        shutil.copy(REPOSITORY / "tests" / name, tmp_path / "tests" / name)
    # the real one loads the interpreters of GPU kernels
    (tmp_path / "tests" / "conftest.py").write_text(STAND_IN_FOR_CONFTEST)

    text = (REPOSITORY / "docs/adding_a_loss.md").read_text(encoding="utf-8")
    # some blocks are lines of a file, no Python by themselves
    loss, import_line, names, rows, call = re.findall(r"^```(?:python)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    for path, block in zip(re.findall(r"^`(\S+\.py)`:$", text, flags=re.MULTILINE), (loss, rows), strict=True):
        (tmp_path / path).write_text(block)
    insert(tmp_path / "contrastive_ops/losses/__init__.py", before="\n__all__", block=import_line)
    insert(tmp_path / "contrastive_ops/losses/__init__.py", after="__all__ = [\n", block=names)
    insert(tmp_path / "contrastive_ops/testing/loss_calls.py", after="CALLS = {\n", block=call)

    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "additive_margin or every_loss"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([*command, "tests"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    # three rows: two backends, two dtypes, two reductions, the module, autocast; no pair and one pair of the call; and
    # two tests of completeness
    assert re.search(r"^28 passed", done.stdout, flags=re.MULTILINE), done.stdout


def test_a_reduction_is_added_by_the_letter(tmp_path):
    """Every step in Python of docs/adding_a_reduction.md is done in a copy of the package, where its example runs."""
    shutil.copytree(
        REPOSITORY / "contrastive_ops", tmp_path / "contrastive_ops", ignore=shutil.ignore_patterns("__pycache__")
    )
    text = (REPOSITORY / "docs/adding_a_reduction.md").read_text(encoding="utf-8")
    reduction, kind, import_line, name, entry, example = re.findall(
        r"^```(?:python)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL
    )
    (path,) = re.findall(r"^`(\S+\.py)`:$", text, flags=re.MULTILINE)
    (tmp_path / path).write_text(reduction)
    insert(tmp_path / "contrastive_ops/reductions/base.py", after="    COUNT_ABOVE = 3\n", block=kind)
    package = tmp_path / "contrastive_ops/reductions/__init__.py"
    insert(package, before="\n__all__", block=import_line)
    insert(package, after="__all__ = [\n", block=name)
    package.write_text(package.read_text() + entry)
    example += (
        "for backend in ('reference', 'eager'):\n"
        "    again = reduce(first, second, passed, backend=backend)['others'].rows\n"
        "    torch.testing.assert_close(again, found['others'].rows)\n"
        "    print(backend, tuple(again.shape))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "reference (64,)\neager (64,)\n"


def insert(path, *, block, before="", after=""):
    text = path.read_text(encoding="utf-8")
    assert text.count(before + after) == 1
    path.write_text(text.replace(before + after, after + block + before))


def test_support_table_is_up_to_date(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET")  # a table for users
    spec = importlib.util.spec_from_file_location("support_table", REPOSITORY / "docs" / "support_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    table = readme.split(module.BEGIN)[1].split(module.END)[0]
    assert table == module.support_table(), "run: python docs/support_table.py --write"


def test_every_export_is_documented():
    import contrastive_ops

    for name in contrastive_ops.__all__:
        assert getattr(contrastive_ops, name).__doc__, name


def test_every_loss_is_in_the_table():
    import contrastive_ops

    text = (REPOSITORY / "docs" / "losses.md").read_text(encoding="utf-8")
    missing = [name for name in contrastive_ops.losses.__all__ if name[0].islower() and f"`{name}" not in text]
    assert missing == []


def test_every_call_of_the_table_names_what_exists():
    """Functions and keywords of the calls are those of the library."""
    import inspect

    import contrastive_ops

    text = (REPOSITORY / "docs" / "losses.md").read_text(encoding="utf-8")
    calls = re.findall(r"`(\w+)\(([^`]*)\)", text)
    assert len(calls) > 30
    for name, arguments in calls:
        known = inspect.signature(getattr(contrastive_ops, name)).parameters
        own = re.sub(r"\w+\([^()]*\)", "", arguments)  # without calls inside
        unknown = {keyword for keyword in re.findall(r"(\w+)=", own) if keyword not in known}
        assert unknown <= ({"logit_scale"} if name == "matryoshka" else set()), (name, unknown)


def test_every_backend_is_named_where_backends_are_described():
    described = similarity_statistics.__doc__.partition("backend: None for")[2]
    assert [name for name in BACKENDS if f'"{name}"' not in described.partition("Returns:")[0]] == []


def test_what_exists_does_not_stand_under_not_here():
    """Every paper stands above or below, not in both places."""
    here, _, not_here = (REPOSITORY / "docs" / "losses.md").read_text(encoding="utf-8").partition("## Not here")
    for paper in ("M2-Encoder", "BASIC"):
        assert paper in here and paper not in not_here

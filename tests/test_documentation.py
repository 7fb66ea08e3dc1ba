"""The documents' code runs, and the support table is the one that the backends give."""

import importlib.util
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent


def python_blocks(name):
    text = (REPOSITORY / name).read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    assert blocks, f"{name} has no python blocks"
    return blocks


@pytest.mark.parametrize("number", range(len(python_blocks("README.md"))))
def test_readme_block_runs_on_its_own(number):
    exec(compile(python_blocks("README.md")[number], f"README.md, block {number}", "exec"), {"__name__": "readme"})


def test_the_added_loss_passes_its_own_tests():
    """The blocks of docs/adding_a_loss.md in their order are a loss and its test functions."""
    namespace = {"__name__": "adding_a_loss"}
    for block in python_blocks("docs/adding_a_loss.md"):
        # annotations of a block are its own matter; a __future__ import must stand first in its compilation
        exec(compile(block, "docs/adding_a_loss.md", "exec"), namespace)
    tests = [value for name, value in namespace.items() if name.startswith("test_")]
    assert tests
    for test in tests:
        test()


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

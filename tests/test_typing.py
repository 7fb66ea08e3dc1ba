"""Editors and type checkers see every setting of every module: signatures made from the functions, `mypy --strict`."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
USER = Path(__file__).parent / "typed_user.py"


def test_the_signatures_are_up_to_date():
    spec = importlib.util.spec_from_file_location("module_signatures", ROOT / "docs" / "module_signatures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.STUB.read_text(encoding="utf-8") == module.stub(), "run: python docs/module_signatures.py --write"


def test_a_users_file_under_mypy_strict():
    """What mypy has read of torch it keeps in the checkout's cache, as for `make lint`."""
    pytest.importorskip("mypy")
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--cache-dir", ".mypy_cache"]
    done = subprocess.run([*command, str(USER)], capture_output=True, text=True, cwd=ROOT)
    found = {
        (int(number), code) for number, code in re.findall(r"typed_user\.py:(\d+): error: .*\[([\w-]+)\]", done.stdout)
    }
    lines = USER.read_text(encoding="utf-8").splitlines()
    meant = {(i, m[1]) for i, line in enumerate(lines, 1) if (m := re.search(r"# error: ([\w-]+)$", line))}
    assert found == meant, done.stdout + done.stderr

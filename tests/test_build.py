"""setup.py refuses before the compiler runs, in one line with the remedy, and installs no file that is gone."""

import os
import runpy
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def functions(monkeypatch):
    """Those of setup.py."""
    monkeypatch.setattr("setuptools.setup", lambda **_: None)
    return runpy.run_path(str(ROOT / "setup.py"))


def program(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.fixture
def nvcc(tmp_path):
    """One that knows two architectures, and fails where it is asked to compile."""
    return program(
        tmp_path / "nvcc",
        """case "$1" in
        --list-gpu-code) echo sm_80; echo sm_90;;
        --list-gpu-arch) echo compute_80; echo compute_90;;
        *) exit 1;; esac""",
    )


@pytest.mark.parametrize("wish, unknown", [("99.0", "sm_99"), ("8.0;12.7+PTX", "sm_127, compute_127")])
def test_architectures_that_nvcc_does_not_know_are_refused(wish, unknown, nvcc, functions):
    with pytest.raises(SystemExit) as refused:
        functions["check_codes"](nvcc, functions["cuda_codes"](wish))
    assert f"TORCH_CUDA_ARCH_LIST asks for {unknown}" in str(refused.value)
    assert "sm_80, sm_90, compute_80, compute_90:" in str(refused.value) and "\n" not in str(refused.value)


def test_architectures_that_nvcc_knows_pass(nvcc, tmp_path, functions):
    functions["check_codes"](nvcc, ["sm_80", "sm_90a", "compute_90"])
    old = program(tmp_path / "old_nvcc", "exit 1")  # without these options: it will say itself what it cannot
    functions["check_codes"](old, ["sm_99"])


@pytest.mark.parametrize("command", ["no-such-compiler", "no-such-compiler -m64"])
def test_no_compiler_is_one_line_with_the_remedy(command, tmp_path):
    environment = os.environ | {"CXX": command, "CONTRASTIVE_OPS_CUDA": "0"}
    arguments = [sys.executable, "setup.py", "-q", "build_ext", "--build-lib", str(tmp_path)]
    process = subprocess.run(arguments, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert process.returncode != 0
    last = process.stderr.strip().splitlines()[-1]
    assert last == "no C++ compiler: 'no-such-compiler' was not found. Install g++ or clang++, or set CXX to one"
    assert "Traceback" not in process.stderr and "ninja" not in process.stdout + process.stderr


def test_a_module_that_is_gone_is_not_installed(tmp_path):
    source, built = tmp_path / "source", tmp_path / "built"
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        source.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, source)
    package = source / "contrastive_ops"
    package.mkdir()
    for name in ("kept", "gone"):
        (package / f"{name}.py").touch()
    (package / "__init__.py").write_text('__version__ = "0"\n')

    def build():
        arguments = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(built)]
        subprocess.run(arguments, cwd=source, check=True, env=os.environ | {"CONTRASTIVE_OPS_CUDA": "0"})
        return sorted(path.name for path in (built / "contrastive_ops").glob("*.py"))

    assert build() == ["__init__.py", "gone.py", "kept.py"]
    (package / "gone.py").unlink()
    assert build() == ["__init__.py", "kept.py"]

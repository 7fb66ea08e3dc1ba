"""The CUDA kernels of `csrc/cuda` on the CPU emulator of `tests/cuda_emulator`, as a backend that takes CPU tensors.

The binding is the one that ships; only the instructions beneath the kernels are software. Built by ninja into
build/cuda_emulator, and built again when a source has changed.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

from contrastive_ops.backends.cuda import CudaBackend

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "build" / "cuda_emulator"
MODULE = "_cuda_emulated"
FLAGS = "-std=c++17 -O2 -fPIC -fvisibility=hidden -Wno-attributes -Wno-unknown-pragmas"


def cuda_include() -> Path | None:
    """The folder of cuda_bf16.h: of CUDA_HOME, or of the nvcc on PATH."""
    nvcc = shutil.which("nvcc")
    homes = [os.environ.get("CUDA_HOME"), nvcc and Path(nvcc).resolve().parent.parent, "/usr/local/cuda"]
    found = (Path(home, "include") for home in homes if home)
    return next((folder for folder in found if (folder / "cuda_bf16.h").exists()), None)


def missing() -> str | None:
    """What the emulator lacks here; None if nothing."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return f"the emulator's fibers are written for x86-64, this is {platform.machine()}"
    if cuda_include() is None:
        return "no CUDA headers (cuda_bf16.h): install the CUDA toolkit, or set CUDA_HOME"
    return None


def build() -> Path:
    """The module's path, up to date."""
    import ninja
    import pybind11

    python = f"-isystem '{pybind11.get_include()}' -isystem '{sysconfig.get_path('include')}'"
    include = f"-I'{ROOT}/tests' -I'{ROOT}/csrc/cuda' -isystem '{cuda_include()}'"
    compiler = os.environ.get("CXX") or "c++"
    sources = sorted(
        [*ROOT.glob("csrc/cuda/*.cu"), *ROOT.glob("csrc/cuda/*.cpp"), *ROOT.glob("tests/cuda_emulator/*.cpp")]
    )
    lines = [
        f"builddir = {FOLDER}",
        "rule compile",
        f"  command = {compiler} {FLAGS} -DCONTRASTIVE_CUDA_MODULE={MODULE} -DCONTRASTIVE_CUDA_HOPPER=1 {include} {python} -MMD -MF $out.d "
        "-x c++ -c $in -o $out",
        "  depfile = $out.d",
        "  deps = gcc",
        "rule link",
        f"  command = {compiler} -shared $in -o $out",
    ]
    objects = [FOLDER / f"{source.relative_to(ROOT).as_posix().replace('/', '_')}.o" for source in sources]
    lines += [f"build {target}: compile {source}" for target, source in zip(objects, sources, strict=True)]
    module = FOLDER / f"{MODULE}.so"
    lines += [f"build {module}: link {' '.join(map(str, objects))}", ""]
    FOLDER.mkdir(parents=True, exist_ok=True)
    build_file = FOLDER / "build.ninja"
    if not build_file.exists() or build_file.read_text() != "\n".join(lines):
        build_file.write_text("\n".join(lines))
    command = [str(Path(ninja.BIN_DIR, "ninja")), "-f", str(build_file), "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the CUDA kernels do not build for the emulator:\n{done.stdout[-4000:]}{done.stderr}")
    return module


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location(MODULE, build())
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODULE] = module
    spec.loader.exec_module(module)
    return module


def emulated_backend(module: ModuleType, *, has_hopper: bool) -> CudaBackend:
    return CudaBackend(module, "cpu", has_hopper)

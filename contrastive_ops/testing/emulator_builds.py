"""Programs and modules of CUDA C++ on the emulator of tests/cuda_emulator, plain and with each sanitizer, built by
ninja below build/cuda_emulator. Of a checkout: neither the emulator nor the kernels' sources are installed."""

from __future__ import annotations

import fcntl
import functools
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EMULATOR = ROOT / "tests" / "cuda_emulator"
HOST = [ROOT / "csrc" / "cuda" / name for name in ("launch_kernel.cu", "stream.cu")]  # without kernels
OUTPUT = ROOT / "build" / "cuda_emulator"

WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]


def default_compiler() -> str | None:
    return shutil.which(os.environ.get("CXX", "c++"))


def clang() -> str | None:
    return next(filter(None, map(shutil.which, ["clang++", *(f"clang++-{n}" for n in range(30, 14, -1))])), None)


@dataclass(frozen=True)
class Build:
    compiler: str | None
    flags: tuple[str, ...]
    emulator_flags: tuple[str, ...]  # of the emulator's own sources
    environment: dict[str, str]


PLAIN = ("-O2", "-g", "-fPIC", "-fvisibility=hidden")  # objects of programs and modules alike
SANITIZED = ("-g1", "-DCONTRASTIVE_CUDA_ONE_TYPE_A_LOOP")  # they take minutes to compile
ADDRESS = ("-O0", *SANITIZED, "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
MEMORY = ("-O0", *SANITIZED, "-fsanitize=memory", "-fsanitize-memory-track-origins")
BUILDS = {
    "plain": Build(default_compiler(), PLAIN, PLAIN, {}),
    # a launch that fails abandons its threads where they are, with what they have allocated
    "address": Build(default_compiler(), ADDRESS, ("-O1", *ADDRESS[1:]), {"ASAN_OPTIONS": "detect_leaks=0"}),
    # the emulator's sources without instrumentation, by GCC: see cuda_emulator/sanitizers.h
    "thread": Build(
        shutil.which("g++"),
        ("-O1", *SANITIZED, "-fsanitize=thread", "-DCUDA_EMULATOR_TSAN"),
        ("-O1", "-g1", "-DCUDA_EMULATOR_TSAN"),
        {"TSAN_OPTIONS": "halt_on_error=1"},
    ),
    "memory": Build(clang(), MEMORY, MEMORY, {}),
}


@functools.cache
def cuda_include() -> Path | None:
    nvcc = shutil.which("nvcc")
    toolkits = [os.environ.get("CUDA_HOME"), nvcc and Path(nvcc).resolve().parent.parent, "/usr/local/cuda"]
    folders = [Path(toolkit) / "include" for toolkit in toolkits if toolkit]
    return next((folder for folder in folders if (folder / "cuda_bf16.h").exists()), None)


@functools.cache
def reason_to_skip(build: str) -> str | None:
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return "the emulator's fibers are written for Linux on x86-64"
    if not EMULATOR.exists():
        return f"{ROOT} is not a checkout"
    if cuda_include() is None:
        return "no CUDA headers: set CUDA_HOME"
    compiler = BUILDS[build].compiler
    if compiler is None:
        return f"no compiler for the build with '{build}'"
    OUTPUT.mkdir(parents=True, exist_ok=True)
    empty = OUTPUT / f"empty_{build}_{os.getpid()}"
    command = [compiler, *BUILDS[build].flags, "-x", "c++", "-", "-o", str(empty)]
    try:
        subprocess.run(command, input="int main() {}", text=True, check=True, capture_output=True)
        subprocess.run([empty], check=True, capture_output=True)
    except subprocess.CalledProcessError as error:
        return f"{compiler} makes no programs that run with {' '.join(BUILDS[build].flags)}: {error.stderr!r}"
    finally:
        empty.unlink(missing_ok=True)
    return None


def build_from(build: str, name: str, sources: Mapping[Path, Sequence[str]], link_flags: Sequence[str]) -> Path:
    """What the compiler links of the emulator and these sources, each with flags of its own besides the build's."""
    options = BUILDS[build]
    folder = OUTPUT / build
    folder.mkdir(parents=True, exist_ok=True)
    includes = [f"-I{ROOT / 'tests'}", f"-I{ROOT / 'csrc' / 'cuda'}", f"-isystem{cuda_include()}"]
    common = " ".join([str(options.compiler), "-std=c++17", *WARNINGS, *includes])
    lines = [
        "rule compile",
        f"  command = {common} $flags -MD -MF $out.d -x c++ -c $in -o $out",
        "  depfile = $out.d",
        "rule link",
        f"  command = {options.compiler} {' '.join(link_flags)} $in -o $out",
    ]
    objects = []
    for source, own_flags in {**dict.fromkeys([*sorted(EMULATOR.glob("*.cpp")), *HOST], ()), **sources}.items():
        flags = options.emulator_flags if source.parent == EMULATOR and source.suffix == ".cpp" else options.flags
        objects.append("_".join(source.relative_to(ROOT).with_suffix(".o").parts))
        lines += [f"build {objects[-1]}: compile {source}", f"  flags = {' '.join([*flags, *own_flags])}"]
    lines += [f"build {name}: link {' '.join(objects)}", ""]
    with open(folder / "lock", "w") as lock:  # tests run in several processes
        fcntl.flock(lock, fcntl.LOCK_EX)
        (folder / f"{name}.ninja").write_text("\n".join(lines))
        ninja = [sys.executable, "-m", "ninja", "-C", str(folder), "-f", f"{name}.ninja", name]
        made = subprocess.run(ninja, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    return folder / name

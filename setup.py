"""Build of `contrastive_ops._native` (sources globbed, compiled by ninja); the metadata is in pyproject.toml.

Environment: CXX, CXXFLAGS, LDFLAGS, MAX_JOBS, CUDA_HOME; CONTRASTIVE_OPS_CUDA=1 demands the CUDA kernels, 0 leaves
them out, unset builds them where nvcc is found; CONTRASTIVE_OPS_CUDA_ARCHS replaces the list of architectures.
"""

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from glob import glob
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

X86 = platform.machine() in ("x86_64", "AMD64")
OPENMP = LINK = "-fopenmp"
if sys.platform == "darwin":  # nothing linked: the symbols are found at load time in the runtime that torch has loaded
    OPENMP, LINK = "-Xclang -fopenmp", "-undefined dynamic_lookup"
CXXFLAGS = "-std=c++17 -O3 -fPIC -fvisibility=hidden -fno-math-errno -fno-trapping-math -Wall -Wextra -Wno-psabi"
AVX512 = "-mavx512f -mavx512dq -mavx512bw -mavx512vl -mfma -mf16c -mprefer-vector-width=512"
ISAS = {"baseline": ""} | ({"avx2": "-mavx2 -mfma -mf16c", "avx512": AVX512} if X86 else {})
NVCCFLAGS = "-std=c++17 -O3 -Xcompiler -fPIC,-fvisibility=hidden"
CUDA_ARCHS = os.environ.get("CONTRASTIVE_OPS_CUDA_ARCHS", "80 90a 100a").split()

ONCE = sorted(glob("csrc/*.cpp") + glob("csrc/cpu/*.cpp"))
PER_ISA = sorted(glob("csrc/cpu/isa/*.cpp"))
CUDA = sorted(glob("csrc/cuda/*.cu"))


def find_nvcc() -> str | None:
    """Path of nvcc if there are CUDA kernels to build."""
    wish, home = os.environ.get("CONTRASTIVE_OPS_CUDA", ""), os.environ.get("CUDA_HOME")
    if wish not in ("", "0", "1"):
        raise SystemExit(f"CONTRASTIVE_OPS_CUDA must be 0, 1 or unset, got {wish!r}")
    nvcc = shutil.which("nvcc", path=f"{home}/bin" if home else None)
    if wish == "1" and nvcc is None:
        raise SystemExit("CONTRASTIVE_OPS_CUDA=1 but no nvcc was found: put it on PATH or set CUDA_HOME")
    return nvcc if CUDA and wish != "0" else None


def build_ninja(directory: str) -> str:
    """The text of build.ninja: every source to an object under `directory`, all objects to one module."""
    import pybind11

    nvcc, env, include = find_nvcc(), os.environ.get, sysconfig.get_path("include")
    if not Path(include, "Python.h").exists():
        raise SystemExit(f"{include}/Python.h is missing: install Python's headers (python3-dev on Debian)")
    # for the binding alone: the kernels are not rebuilt when pip puts pybind11 into a new build environment
    python = f"-isystem '{include}' -isystem '{pybind11.get_include()}'"
    cxx = env("CXX") or "c++"
    defines = " -DCONTRASTIVE_X86=1" * X86 + " -DCONTRASTIVE_CUDA=1" * bool(nvcc)
    archs = " ".join(f"-gencode arch=compute_{arch},code=sm_{arch}" for arch in CUDA_ARCHS)
    linker = f"'{nvcc}' -Xcompiler {LINK}" if nvcc else f"{cxx} {LINK}"
    rules = {
        "cxx": f"{cxx} {CXXFLAGS} {OPENMP}{defines} $flags {env('CXXFLAGS', '')} -MMD -MF $out.d -c $in -o $out",
        "nvcc": f"'{nvcc}' {NVCCFLAGS} {archs} -MMD -MF $out.d -c $in -o $out",
        "link": f"{linker} -shared $in -o $out {env('LDFLAGS', '')}",
    }
    lines = [f"builddir = {directory}"]
    for name, command in rules.items():
        lines += [f"rule {name}", f"  command = {command}", *["  depfile = $out.d", "  deps = gcc"] * (name != "link")]
    # portable objects first: of an inline function that several objects define, the linker keeps the first
    objects = [(path, "o", "cxx", python * (path == "csrc/binding.cpp")) for path in ONCE]
    for isa, flags in ISAS.items():
        objects += [(path, f"{isa}.o", "cxx", f"-DCONTRASTIVE_ISA={isa} {flags}") for path in PER_ISA]
    objects += [(path, "o", "nvcc", "") for path in (CUDA if nvcc else ())]
    outputs = [f"{directory}/{path}.{suffix}" for path, suffix, *_ in objects]
    for (path, _, rule, flags), output in zip(objects, outputs, strict=True):
        lines += [f"build {output}: {rule} {path}", f"  flags = {flags}"]
    return "\n".join([*lines, f"build {directory}/_native.so: link {' '.join(outputs)}", ""])


class NinjaBuildExt(build_ext):
    def build_extension(self, ext: Extension) -> None:
        from ninja import BIN_DIR

        # not build_temp: that is a new folder for every editable install, and nothing would be incremental
        directory = Path("build", f"ninja-{sysconfig.get_platform()}-{sys.implementation.cache_tag}")
        directory.mkdir(parents=True, exist_ok=True)
        Path(directory, "build.ninja").write_text(build_ninja(str(directory)))
        parallel = ["-j", os.environ["MAX_JOBS"]] if os.environ.get("MAX_JOBS") else []
        ninja = os.path.join(BIN_DIR, "ninja")  # in an isolated build BIN_DIR may be empty, and ninja is on PATH
        if subprocess.call([ninja, "-f", f"{directory}/build.ninja", "--quiet", *parallel]):
            raise SystemExit("the native build failed: the compiler's message is above")
        self.mkpath(os.path.dirname(self.get_ext_fullpath(ext.name)))
        shutil.copyfile(directory / "_native.so", self.get_ext_fullpath(ext.name))


setup(
    # triton_kernels/ stays beside csrc/, but nothing except contrastive_ops lands in site-packages
    packages=[*find_packages(include=["contrastive_ops*"]), "contrastive_ops.triton_kernels"],
    package_dir={"contrastive_ops.triton_kernels": "triton_kernels"},
    ext_modules=[Extension("contrastive_ops._native", sources=ONCE + PER_ISA + CUDA)],
    cmdclass={"build_ext": NinjaBuildExt},
)

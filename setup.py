"""Build of `contrastive_ops._native` and, where nvcc is found, `contrastive_ops._cuda`: sources globbed, run by ninja.

Environment: CXX, CXXFLAGS, LDFLAGS, MAX_JOBS, CUDA_HOME; CONTRASTIVE_OPS_CUDA=1 demands the CUDA kernels, 0 leaves them
out; TORCH_CUDA_ARCH_LIST, such as "8.0;9.0+PTX", replaces the list of architectures. The metadata is in pyproject.toml.
"""

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from glob import glob
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

X86 = platform.machine() in ("x86_64", "AMD64")
OPENMP = LINK = "-fopenmp"
if sys.platform == "darwin":  # nothing linked: the symbols are found at load time in the runtime that torch has loaded
    OPENMP, LINK = "-Xclang -fopenmp", "-undefined dynamic_lookup"
CXXFLAGS = "-std=c++17 -O3 -fPIC -fvisibility=hidden -fno-math-errno -fno-trapping-math -Wall -Wextra -Wno-psabi"
AVX512 = "-mavx512f -mavx512dq -mavx512bw -mavx512vl -mfma -mf16c -mprefer-vector-width=512"
ISAS = {"baseline": ""} | ({"avx2": "-mavx2 -mfma -mf16c", "avx512": AVX512} if X86 else {})
# a kernel that spills registers to memory is a bug of ours, also with a compiler that we have not seen
NVCCFLAGS = "-std=c++17 -O3 -Xcompiler -fPIC,-fvisibility=hidden -Xptxas -warn-spills"
CUDA_ARCHS = "8.0;9.0;10.0+PTX"  # 8.x and 12.x run the code of 8.0 and the PTX of 10.0

ONCE = sorted(glob("csrc/*.cpp") + glob("csrc/cpu/*.cpp"))
PER_ISA = sorted(glob("csrc/cpu/isa/*.cpp"))
CUDA, CUDA_BINDING = sorted(glob("csrc/cuda/*.cu")), "csrc/cuda/binding.cpp"
BINDINGS = ("csrc/binding.cpp", CUDA_BINDING)


def find_nvcc() -> str | None:
    """Path of nvcc if the CUDA kernels are to be built."""
    wish, home = os.environ.get("CONTRASTIVE_OPS_CUDA", ""), os.environ.get("CUDA_HOME")
    if wish not in ("", "0", "1"):
        raise SystemExit(f"CONTRASTIVE_OPS_CUDA must be 0, 1 or unset, got {wish!r}")
    nvcc = shutil.which("nvcc", path=f"{home}/bin" if home else None)
    if wish == "1" and nvcc is None:
        raise SystemExit("CONTRASTIVE_OPS_CUDA=1 but no nvcc was found: put it on PATH or set CUDA_HOME")
    return nvcc if wish != "0" else None


def cuda_codes(wish: str) -> list[str]:
    """TORCH_CUDA_ARCH_LIST as nvcc's names of what is made: machine code (sm_*) and PTX (compute_*). 9.0 is built as
    9.0a, whose matrix instructions have no other name; its PTX is that of 9.0, as no later GPU takes that of 9.0a."""
    codes = []
    for entry in wish.replace(";", " ").split():
        arch, has_ptx = entry.removesuffix("+PTX"), entry.endswith("+PTX")
        number = arch.replace(".", "")
        if not re.fullmatch(r"\d+\.\d[a-z]?", arch) or int(re.sub(r"\D", "", number)) < 80:
            raise SystemExit(f"TORCH_CUDA_ARCH_LIST must hold numbers from 8.0 on such as '8.0;9.0+PTX', got {entry!r}")
        is_hopper = number in ("90", "90a")
        codes.append("sm_90a" if is_hopper else f"sm_{number}")
        if has_ptx:
            codes.append("compute_90" if is_hopper else f"compute_{number}")
    if not codes:
        raise SystemExit("TORCH_CUDA_ARCH_LIST is empty: unset it for the default, " + CUDA_ARCHS)
    return list(dict.fromkeys(codes))


def check_codes(nvcc: str, codes: list[str]) -> None:
    """Refuse what this nvcc cannot make, before it has compiled for minutes. One without these lists says so itself."""
    known: list[str] = []
    for option in ("--list-gpu-code", "--list-gpu-arch"):
        listed = subprocess.run([nvcc, option], capture_output=True, text=True)
        if listed.returncode:
            return
        known += listed.stdout.split()
    # sm_90a is listed as sm_90
    if unknown := [code for code in codes if code.rstrip("af") not in known]:
        raise SystemExit(
            f"TORCH_CUDA_ARCH_LIST asks for {', '.join(unknown)}, which {nvcc} does not make, only {', '.join(known)}: "
            "take others, or another CUDA toolkit (CUDA_HOME)"
        )


def find_compiler(command: str) -> str:
    """The command, if there is such a program."""
    program = shlex.split(command)[0]
    if shutil.which(program) is None:
        raise SystemExit(f"no C++ compiler: {program!r} was not found. Install g++ or clang++, or set CXX to one")
    return command


def build_ninja(directory: str) -> str:
    """The text of build.ninja: every source to an object under `directory`, their objects to a module each."""
    import pybind11

    nvcc, env, include = find_nvcc(), os.environ.get, sysconfig.get_path("include")
    if not Path(include, "Python.h").exists():
        raise SystemExit(f"{include}/Python.h is missing: install Python's headers (python3-dev on Debian)")
    # for the binding alone: the kernels are not rebuilt when pip puts pybind11 into a new build environment
    python = f"-isystem '{include}' -isystem '{pybind11.get_include()}'"
    cxx = find_compiler(env("CXX") or "c++")
    x86 = " -DCONTRASTIVE_X86=1" * X86
    rules = {
        "cxx": f"{cxx} {CXXFLAGS} {OPENMP}{x86} $flags {env('CXXFLAGS', '')} -MMD -MF $out.d -c $in -o $out",
        "link": f"{cxx} {LINK} -shared $in -o $out {env('LDFLAGS', '')}",
    }
    # portable objects first: of an inline function that several objects define, the linker keeps the first
    objects = [(path, "o", "cxx", python * (path in BINDINGS)) for path in ONCE]
    for isa, flags in ISAS.items():
        objects += [(path, f"{isa}.o", "cxx", f"-DCONTRASTIVE_ISA={isa} {flags}") for path in PER_ISA]
    modules = {"_native": (objects, "link")}
    if nvcc:
        codes = cuda_codes(env("TORCH_CUDA_ARCH_LIST") or CUDA_ARCHS)
        check_codes(nvcc, codes)
        archs = " ".join(f"-gencode arch={code.replace('sm', 'compute')},code={code}" for code in codes)
        rules["nvcc"] = f"'{nvcc}' {NVCCFLAGS} {archs} -MMD -MF $out.d -c $in -o $out"
        rules["nvlink"] = f"'{nvcc}' -shared $in -o $out {env('LDFLAGS', '')}"
        defines = f"-DCONTRASTIVE_CUDA_MODULE=_cuda -DCONTRASTIVE_CUDA_CODES='\"{' '.join(codes)}\"'"
        binding = (CUDA_BINDING, "o", "cxx", f"{python} {defines}")
        modules["_cuda"] = ([*((path, "o", "nvcc", "") for path in CUDA), binding], "nvlink")
    lines = [f"builddir = {directory}"]
    for name, command in rules.items():
        depends = [] if "link" in name else ["  depfile = $out.d", "  deps = gcc"]
        lines += [f"rule {name}", f"  command = {command}", *depends]
    for module, (sources, linker) in modules.items():
        outputs = [f"{directory}/{path}.{suffix}" for path, suffix, *_ in sources]
        for (path, _, rule, flags), output in zip(sources, outputs, strict=True):
            lines += [f"build {output}: {rule} {path}", f"  flags = {flags}"]
        lines.append(f"build {directory}/{module}.so: {linker} {' '.join(outputs)}")
    return "\n".join([*lines, ""])


class NinjaBuildExt(build_ext):
    def build_extensions(self) -> None:
        from ninja import BIN_DIR

        # not build_temp: that is a new folder for every editable install, and nothing would be incremental
        directory = Path("build", f"ninja-{sysconfig.get_platform()}-{sys.implementation.cache_tag}")
        directory.mkdir(parents=True, exist_ok=True)
        Path(directory, "build.ninja").write_text(build_ninja(str(directory)))
        parallel = ["-j", os.environ["MAX_JOBS"]] if os.environ.get("MAX_JOBS") else []
        ninja = os.path.join(BIN_DIR, "ninja")  # in an isolated build BIN_DIR may be empty, and ninja is on PATH
        if subprocess.call([ninja, "-f", f"{directory}/build.ninja", "--quiet", *parallel]):
            raise SystemExit("the native build failed: the compiler's message is above")
        for ext in self.extensions:
            self.mkpath(os.path.dirname(self.get_ext_fullpath(ext.name)))
            shutil.copyfile(directory / f"{ext.name.rpartition('.')[2]}.so", self.get_ext_fullpath(ext.name))


class FreshBuildPy(build_py):
    """Without what an earlier build has left: a module that is gone would be installed for ever."""

    def run(self) -> None:
        if not self.editable_mode:
            shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()


setup(
    packages=find_packages(include=["contrastive_ops*"]),  # triton_kernels/, beside csrc/, is a link in the package
    ext_modules=[
        Extension("contrastive_ops._native", sources=ONCE + PER_ISA),
        *([Extension("contrastive_ops._cuda", sources=[*CUDA, CUDA_BINDING])] if find_nvcc() else []),
    ],
    cmdclass={"build_ext": NinjaBuildExt, "build_py": FreshBuildPy},
)

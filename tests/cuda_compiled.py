"""Counts what the compiler made of the CUDA kernels: in the built extension, which holds their code for every architecture.

    python tests/cuda_compiled.py                     every kernel and architecture
    python tests/cuda_compiled.py sm_90a --json       one architecture, for programs
    python tests/cuda_compiled.py --only 'bf16'       kernels whose name holds it
    python tests/cuda_compiled.py --write-baseline    tests/cuda_registers.json
    python tests/cuda_compiled.py --markdown          the table of docs/gpu.md

Nothing is compiled for it but a small program that tells what the host asks for at a launch (tests/cuda_launches.cpp),
and nothing runs. The extension must have been built with nvcc for the default architectures.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from sass import Instruction, find_tool, innermost_loops, matching, parse_sass, run_tool

ROOT = Path(__file__).parent.parent
BASELINE = Path(__file__).parent / "cuda_registers.json"
CACHE = ROOT / "build" / "cuda_compiled"
LAUNCHES = Path(__file__).parent / "cuda_launches.cpp"
SOURCES = (*sorted(ROOT.glob("csrc/cuda/*")), ROOT / "csrc" / "types.h")

# CUDA C++ programming guide, technical specifications per compute capability: bytes of shared memory that a block can
# have, and those of a multiprocessor. The rest is the same for all three.
SHARED_LIMITS = {"sm_80": (163 * 1024, 164 * 1024), "sm_90a": (227 * 1024, 228 * 1024), "sm_100": (227 * 1024, 228 * 1024)}
MAX_WARPS, MAX_BLOCKS, REGISTERS = 64, 32, 65536
# cuda_occupancy.h of the toolkit: quarters of a multiprocessor, registers that a warp takes at a time, and bytes of
# shared memory that the driver takes of every block
QUARTERS, REGISTER_UNIT, SHARED_UNIT, DRIVER_SHARED = 4, 256, 128, 1024

# Clocks that an instruction keeps the tensor cores of its quarter busy: those of an A100 (312 TFLOP/s from 108
# multiprocessors at 1.41 GHz) multiply 256 pairs a clock each, those of an H100 (989 TFLOP/s, 132, 1.83 GHz) 512.
HMMA_CLOCKS = 16 * 8 * 16 / 256  # m16n8k16 of a warp
HGMMA_CLOCKS = 64 * 16 / 4 / 512  # m64nNk16 of the warps of all quarters, for each of its N columns

# what is counted in the main loop, each instruction once
KINDS = {
    "HMMA": "HMMA",
    "HGMMA": "HGMMA",
    "FMA": "[FD]FMA",
    "LDSM": "LDSM",
    "LDS": r"LDS$|LDS\.",
    "LDGSTS": "LDGSTS",
    "UTMALDG": "UTMALDG",
    "SYNCS": "SYNCS",
    "BAR": r"BAR\.",
    "global": r"(LDG|STG|LD|ST|ATOMG?|RED)(\.|$)",
    "local": "LDL|STL",
    "integer": "U?(IADD|IMAD|VIADD|LEA|LOP|PLOP|SHF|ISETP|IMNMX|VIMNMX|PRMT|SEL|MOV|SGXT|CS2R|S2)|R2UR",
}
NUMBERS = {"__nv_bfloat16": "bf16", "__half": "fp16", "float": "fp32", "double": "fp64"}


class Launch(NamedTuple):
    """What the host asks for."""

    threads: int
    min_blocks: int  # that should fit on a multiprocessor
    shared: int  # dynamic shared memory, bytes


class Figures(NamedTuple):
    """What the compiler made of one kernel, and how it fits on a multiprocessor."""

    registers: int  # of a thread at launch
    stack: int  # bytes
    spills: int  # instructions that touch local memory, in the whole kernel
    threads: int
    min_blocks: int
    blocks: int  # that do fit
    shared: int  # bytes
    loop: int  # instructions of the main loop; 0: there is none
    issue: float  # those for each clock that the loop keeps the tensor cores busy; 0 without them
    bulk_loads: int  # UTMALDG in the whole kernel: another warp may issue them
    mix: dict[str, int]  # KINDS in the main loop


class Function(NamedTuple):
    name: str  # readable
    parameter: str  # type of the kernel's argument
    registers: int
    stack: int
    shared: int  # static, bytes
    instructions: list[Instruction]


# the extension


def find_extension() -> Path | None:
    spec = find_spec("contrastive_ops._cuda")
    return Path(spec.origin) if spec and spec.origin else None


def find_cuda() -> Path | None:
    """The toolkit's folder."""
    if home := os.environ.get("CUDA_HOME"):
        return Path(home)
    nvcc = shutil.which("nvcc")
    return Path(nvcc).resolve().parent.parent if nvcc else None


def missing() -> str | None:
    """Why nothing can be counted here."""
    extension, cuda = find_extension(), find_cuda()
    if extension is None:
        return "contrastive_ops is built without CUDA: reinstall it with nvcc on PATH, or CUDA_HOME set"
    if extension.stat().st_mtime < max(path.stat().st_mtime for path in SOURCES):
        return "the extension is older than csrc/cuda: reinstall it"
    if cuda is None or not (cuda / "include" / "cuda_bf16.h").exists():
        return "no headers of CUDA: put nvcc on PATH, or set CUDA_HOME"
    tools = {tool: find_tool(tool) for tool in ("cuobjdump", "nvdisasm")} | {"c++filt": shutil.which("c++filt")}
    absent = [tool for tool, path in tools.items() if path is None]
    return f"{' and '.join(absent)} not found: triton brings NVIDIA's tools, binutils the other" if absent else None


def measure_extension(extension: Path) -> dict[str, Figures]:
    """Every kernel of ours, by "<architecture> <kernel>". Kept in build/ as long as nothing changes."""
    inputs = (extension, *SOURCES, LAUNCHES, Path(__file__), Path(__file__).parent / "sass.py")
    key = hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in inputs)).hexdigest()[:20]
    kept = CACHE / f"{key}.json"
    if not kept.exists():
        figures = {key: f._asdict() for key, f in _measure_extension(extension).items()}
        CACHE.mkdir(parents=True, exist_ok=True)
        unfinished = CACHE / f"{key}.{os.getpid()}"
        unfinished.write_text(json.dumps(figures))
        unfinished.replace(kept)
    return {key: Figures(**figures) for key, figures in json.loads(kept.read_text()).items()}


def _measure_extension(extension: Path) -> dict[str, Figures]:
    launches = host_launches()
    found: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        run_tool("cuobjdump", "-xelf", "all", str(extension), cwd=Path(folder))
        cubins = sorted(Path(folder).glob("*.cubin"), key=lambda path: int(path.name.split(".")[-3]))
        for cubin, functions in zip(cubins, pool.map(read_cubin, cubins), strict=True):
            arch = cubin.name.split(".")[-2]
            for function in functions:
                key = f"{arch} {function.name}"
                # elsewhere those of Hopper are compiled to nothing, and not launched
                if arch not in SHARED_LIMITS or ("Wgmma" in key and arch != "sm_90a"):
                    continue
                if key in found:
                    raise ValueError(f"two kernels are {key}")
                found[key] = measure(arch, function, launches.pop_or_get(function.parameter))
    return dict(sorted(found.items()))


def compiler_version(extension: Path) -> str:
    """Of the nvcc that built it."""
    with tempfile.TemporaryDirectory() as folder:
        run_tool("cuobjdump", "-xelf", "all", str(extension), cwd=Path(folder))
        code = b"".join(path.read_bytes() for path in Path(folder).glob("*.cubin"))
    versions = set(re.findall(rb"Cuda compilation tools, release [\d.]+, V([\d.]+)", code))
    return " and ".join(sorted(version.decode() for version in versions))

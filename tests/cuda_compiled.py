"""Counts what the compiler made of the CUDA kernels, in the built extension, which holds their code for every GPU.

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
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from sass import Instruction, find_tool, innermost_loops, matching, parse_sass, run_tool

ROOT = Path(__file__).parent.parent
BASELINE = Path(__file__).parent / "cuda_registers.json"
CACHE = ROOT / "build" / "cuda_compiled"
LAUNCHES = Path(__file__).parent / "cuda_launches.cpp"
SOURCES = (*sorted(ROOT.glob("csrc/cuda/**/*.*")), ROOT / "csrc" / "types.h")

# CUDA C++ programming guide, technical specifications per compute capability: bytes of shared memory that a block can
# have, and those of a multiprocessor. The rest is the same for all three.
SHARED_LIMITS = {
    "sm_80": (163 * 1024, 164 * 1024),
    "sm_90a": (227 * 1024, 228 * 1024),
    "sm_100": (227 * 1024, 228 * 1024),
}
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
NEEDED = ("HMMA", "HGMMA", "FMA", "LDGSTS", "SYNCS")  # of these too few would be wrong, of the others too many
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
    loops: int  # main loops: two where both products of a macro-block are one kernel
    loop: int  # instructions of the longest; 0: there is none
    issue: float  # those for each clock that a loop keeps the tensor cores busy, the most of any; 0 without them
    bulk_loads: int  # UTMALDG in the whole kernel: another warp may issue them
    mix: dict[str, int]  # KINDS in a main loop: the fewest of any that are NEEDED, the most of the others


class Report(NamedTuple):
    nvcc: str  # version of the compiler
    kernels: dict[str, Figures]  # "<architecture> <kernel>"


class Function(NamedTuple):
    name: str  # such as "macro_product_bwd MmaMainLoop<bf16>"
    parameter: str  # type of the kernel's argument
    registers: int
    stack: int
    shared: int  # bytes, without the dynamic part
    instructions: list[Instruction]


# the extension


def find_extension() -> Path | None:
    spec = find_spec("contrastive_ops._cuda")
    return Path(spec.origin) if spec and spec.origin else None


def find_nvcc() -> str | None:
    """As setup.py does."""
    home = os.environ.get("CUDA_HOME")
    return shutil.which("nvcc", path=f"{home}/bin" if home else None)


def missing() -> str | None:
    """Why nothing can be counted here."""
    extension = find_extension()
    if extension is None:
        return "contrastive_ops is built without CUDA: reinstall it with nvcc on PATH, or CUDA_HOME set"
    if extension.stat().st_mtime < max(path.stat().st_mtime for path in SOURCES):
        return "the extension is older than csrc/cuda: reinstall it"
    tools = {tool: find_tool(tool) for tool in ("cuobjdump", "nvdisasm")} | {
        "c++filt": shutil.which("c++filt"),
        "nvcc": find_nvcc(),
    }
    absent = [tool for tool, path in tools.items() if path is None]
    return f"{' and '.join(absent)} not found: triton brings NVIDIA's tools, binutils c++filt" if absent else None


def measure_extension(extension: Path) -> Report:
    """Every kernel of ours. Kept in build/ as long as nothing changes."""
    inputs = (extension, *SOURCES, LAUNCHES, Path(__file__), Path(__file__).parent / "sass.py")
    digest = hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in inputs)).hexdigest()[:20]
    kept = CACHE / f"{digest}.json"
    CACHE.mkdir(parents=True, exist_ok=True)
    with Path(CACHE, "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one process counts, the others wait for what it found
        if not kept.exists():
            nvcc, kernels = count_extension(extension)
            unfinished = kept.with_suffix(".unfinished")
            unfinished.write_text(
                json.dumps({"nvcc": nvcc, "kernels": {key: f._asdict() for key, f in kernels.items()}})
            )
            unfinished.replace(kept)
    report = json.loads(kept.read_text())
    return Report(report["nvcc"], {key: Figures(**figures) for key, figures in report["kernels"].items()})


def count_extension(extension: Path) -> Report:
    launches, launched = host_launches(), set()
    kernels: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        run_tool("cuobjdump", "-xelf", "all", str(extension), cwd=Path(folder))
        cubins = [path for path in Path(folder).glob("*.cubin") if path.name.split(".")[-2] in SHARED_LIMITS]
        versions = {
            found for path in cubins for found in re.findall(rb"tools, release [\d.]+, V([\d.]+)", path.read_bytes())
        }
        for cubin, functions in zip(cubins, pool.map(read_cubin, cubins), strict=True):
            arch = cubin.name.split(".")[-2]
            for function in functions:
                key = f"{arch} {function.name}"
                if not runs_on(function.name, arch):
                    continue
                if key in kernels or function.parameter not in launches:
                    raise ValueError(f"{key}: {'another one has this name' if key in kernels else 'never launched'}")
                kernels[key] = measure(arch, function, launches[function.parameter])
                launched.add((arch, function.parameter))
    expected = {(arch, parameter) for arch, _ in launched for parameter in launches if runs_on(parameter, arch)}
    if launched != expected:
        raise ValueError(f"launched, but not in the extension: {expected - launched}")
    return Report(b" and ".join(sorted(versions)).decode(), dict(sorted(kernels.items())))


def runs_on(kernel: str, arch: str) -> bool:
    """Elsewhere those of Hopper are compiled to nothing."""
    return "WgmmaMainLoop" not in kernel or arch == "sm_90a"


def host_launches() -> dict[str, Launch]:
    """By the type of the kernel's argument."""
    nvcc = find_nvcc()
    assert nvcc is not None
    with tempfile.TemporaryDirectory() as folder:
        program, includes = f"{folder}/launches", [f"-I{folder}", f"-I{ROOT / 'tests'}"]
        sources = "".join(f'#include "{path}"\n' for path in SOURCES if path.suffix == ".cu")
        Path(folder, "all_kernels.inc").write_text(sources)
        # for a .cpp file nvcc calls the host's compiler, and knows where the headers are
        subprocess.run([nvcc, "-std=c++17", *includes, LAUNCHES, "-o", program], check=True)
        lines = subprocess.run([program], check=True, capture_output=True, text=True).stdout.splitlines()
    fields = (line.split("\t") for line in lines)
    return {without_spaces(parameter): Launch(*map(int, numbers)) for parameter, *numbers in fields}


# what is in it


def read_cubin(cubin: Path) -> list[Function]:
    usage = run_tool("cuobjdump", "-res-usage", str(cubin))
    functions = []
    for symbol, code in split_functions(run_tool("nvdisasm", "-c", str(cubin))):
        signature = run_tool("c++filt", symbol).strip()
        found = re.fullmatch(r"void contrastive_ops::cuda::.*?(\w+)_kernel<(.*)>\((.*)\)", signature)
        figures = re.search(rf"Function {re.escape(symbol)}:\s+REG:(\d+) STACK:(\d+) SHARED:(\d+)", usage)
        if found and figures:
            kernel, loop, parameter = found.groups()
            registers, stack, shared = map(int, figures.groups())
            name = f"{kernel} {loop_name(loop)}"
            functions.append(Function(name, without_spaces(parameter), registers, stack, shared, parse_sass(code)))
    return functions


def split_functions(code: str) -> Iterator[tuple[str, str]]:
    parts = re.split(r"^\s*\.section\s+\.text\.([^,]+),.*$", code, flags=re.MULTILINE)
    return zip(parts[1::2], parts[2::2], strict=True)


def loop_name(loop: str) -> str:
    """Such as MmaMainLoop<bf16>, with " volume" if the score is, and " any" if the reductions are a list; of any other
    types their names."""
    found = re.search(r"(Mma|Fma|Wgmma)\w+<(\w+)", loop)
    if not found:
        names = [part.strip() for part in loop.split(", ")]
        return " to ".join(dict.fromkeys(NUMBERS.get(name) or name.rpartition("::")[2] for name in names))
    name = "Kept" if "KeptMainLoop" in loop else found[1]
    suffix = " volume" * ("VolumeScore" in loop) + " any" * loop.endswith("cuda::Any")
    return f"{name}MainLoop<{NUMBERS[found[2]]}>{suffix}"


def without_spaces(text: str) -> str:
    return text.replace(" ", "")


def measure(arch: str, function: Function, launch: Launch) -> Figures:
    instructions, loops = function.instructions, main_loops(function.instructions)
    # from sm_90 on the compiler's figure includes what the driver takes
    static = function.shared - (DRIVER_SHARED if arch != "sm_80" and function.shared else 0)
    shared = static + launch.shared
    return Figures(
        registers=function.registers,
        stack=function.stack,
        spills=matching(instructions, KINDS["local"]),
        threads=launch.threads,
        min_blocks=launch.min_blocks,
        blocks=blocks_per_multiprocessor(arch, function.registers, launch.threads, shared),
        shared=shared,
        loops=len(loops),
        loop=max(map(len, loops), default=0),
        issue=max((len(loop) / clocks for loop in loops if (clocks := tensor_clocks(loop))), default=0.0),
        bulk_loads=matching(instructions, KINDS["UTMALDG"]),
        mix={
            kind: (min if kind in NEEDED else max)((matching(loop, opcode) for loop in loops), default=0)
            for kind, opcode in KINDS.items()
        },
    )


def main_loops(instructions: list[Instruction]) -> list[list[Instruction]]:
    """The loops of products. The portable kernels have others, without asynchronous copies, for operands that are not
    aligned."""
    loops = innermost_loops(instructions, "HMMA|HGMMA|[FD]FMA")
    return [loop for loop in loops if matching(loop, "LDGSTS|HGMMA")]


def tensor_clocks(loop: list[Instruction]) -> float:
    products = (re.match(r"HGMMA\.64x(\d+)x16", x.opcode) for x in loop)
    return matching(loop, "HMMA") * HMMA_CLOCKS + sum(int(x[1]) * HGMMA_CLOCKS for x in products if x)


def blocks_per_multiprocessor(arch: str, registers: int, threads: int, shared: int) -> int:
    warps = -(-threads // 32)
    registers_of_warp = -(-registers * 32 // REGISTER_UNIT) * REGISTER_UNIT
    by_registers = REGISTERS // QUARTERS // registers_of_warp * QUARTERS // warps
    by_shared = SHARED_LIMITS[arch][1] // (-(-(shared + DRIVER_SHARED) // SHARED_UNIT) * SHARED_UNIT)
    return min(MAX_BLOCKS, MAX_WARPS // warps, by_registers, by_shared)


# the command


def describe(key: str, f: Figures) -> str:
    mix = ", ".join(f"{count} {kind}" for kind, count in f.mix.items() if count)
    issue = f", {f.issue:.2f} a clock of the tensor cores" if f.issue else ""
    return (
        f"{key:58} {f.registers:3} registers, {f.spills} spills, {f.shared / 1024:5.1f} KiB shared, "
        f"{f.blocks} of {f.min_blocks} blocks, loop of {f.loop}{issue}: {mix}"
    )


def write_baseline(report: Report) -> None:
    baseline = {
        "nvcc": report.nvcc,
        "registers": {key: f.registers for key, f in report.kernels.items()},
        "loop": {key: f.loop for key, f in report.kernels.items()},
    }
    BASELINE.write_text(json.dumps(baseline, indent=1) + "\n")


def markdown(kernels: dict[str, Figures]) -> str:
    """Without fp16, whose code is that of bf16."""
    lines = ["| kernel | main loop | architecture | registers | shared KiB | blocks | loop | products | from shared |"]
    lines[0] += " copies | integer | issue |"
    lines.append("|" + "---|" * 12)
    for key in sorted(kernels, key=lambda key: (key.split()[1:], list(SHARED_LIMITS).index(key.split()[0]))):
        f, (arch, kernel, loop) = kernels[key], key.split(maxsplit=2)
        if "fp16" in loop or not f.loop:
            continue
        products = next(f"{f.mix[kind]} {kind}" for kind in ("HGMMA", "HMMA", "FMA") if f.mix[kind])
        cells = [kernel, loop, arch, f.registers, f"{f.shared / 1024:.0f}", f.blocks, f.loop, products]
        cells += [f.mix["LDSM"] + f.mix["LDS"], f.mix["LDGSTS"] or f.bulk_loads, f.mix["integer"]]
        cells += [f"{f.issue:.2f}" if f.issue else ""]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arch", nargs="?", choices=SHARED_LIMITS)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", metavar="REGEX", default="", help="kernels whose name holds it")
    parser.add_argument("--write-baseline", action="store_true")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    if reason := missing():
        parser.error(reason)
    extension = find_extension()
    assert extension is not None
    report = measure_extension(extension)
    kernels = {
        key: f
        for key, f in report.kernels.items()
        if key.startswith(f"{options.arch or ''}") and re.search(options.only, key)
    }
    if options.write_baseline:
        write_baseline(report)
    if options.markdown:
        print(markdown(kernels))
    elif options.json:
        print(json.dumps({key: f._asdict() for key, f in kernels.items()}))
    else:
        for key, figures in kernels.items():
            print(describe(key, figures))


if __name__ == "__main__":
    main()

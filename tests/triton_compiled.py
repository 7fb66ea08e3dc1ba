"""Compiles the Triton kernels for GPUs that need not be here, and counts what the compiler made of them.

    python tests/triton_compiled.py sm_90                 every case of the tile table on one architecture
    python tests/triton_compiled.py sm_90 --json          the same for programs
    python tests/triton_compiled.py sm_90 --json --known SEED      an eighth, by the seed, and what is new
    python tests/triton_compiled.py sm_90 --only 'gradient.*D=512' --tile 128,128,0,4,2     another tile
    python tests/triton_compiled.py --write-baseline      tests/triton_registers.json
    python tests/triton_compiled.py --markdown            the table of docs/triton_kernels.md

Triton specialises and compiles as it does at a launch; only its driver, which would ask the GPU what it is, is
replaced. Nothing runs.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

os.environ.pop("TRITON_INTERPRET", None)  # read by triton when it is imported: an interpreted kernel has no code

import triton
from sampled import is_sampled
from sass import Instruction, main_loop, matching, parse_sass, run_tool
from triton.runtime import driver
from triton_cases import ARCHITECTURES, FORMATS, VARIANTS, Architecture, Case, FakeDriver, build_launch, cases
from triton_digest import digest

from contrastive_ops.backends.triton import tiles

BASELINE = Path(__file__).parent / "triton_registers.json"
SMALLEST_WGMMA = 64  # rows


class Usage(NamedTuple):
    """What one program occupies."""

    registers: int  # of a thread
    spills: int  # NVIDIA: instructions that touch local memory; AMD: vector registers spilled
    scalar_spills: int  # AMD: scalar registers kept in lanes of vector registers; no memory is touched
    shared: int  # bytes


class Figures(NamedTuple):
    """What the compiler made of one case."""

    tile: str
    warps: int
    stages: int
    registers: int  # from here as in Usage
    spills: int
    scalar_spills: int
    shared: int
    tensor: int  # tensor-core instructions in the main loop
    fma: int  # multiply-adds of the plain cores in the main loop
    async_loads: int  # from global to shared memory, in the whole kernel
    loop: int  # instructions of the main loop
    digest: str  # of what the compiler was given


def digest_of(case: Case) -> str:
    return digest(build_launch(case), ARCHITECTURES[case.arch].target)


def compile_case(case: Case) -> Figures:
    driver.set_active(FakeDriver(ARCHITECTURES[case.arch].target))
    launch = build_launch(case)
    compiled = launch.kernel.warmup(**launch.arguments, **launch.options, grid=launch.grid)
    sizes = [
        launch.arguments[x] for x in ("BLOCK_M", "BLOCK_N", "BLOCK_D", "BLOCK_K", "BLOCK") if x in launch.arguments
    ]
    measure = measure_amd if case.arch.startswith("gfx") else measure_nvidia
    usage, instructions = measure(compiled)
    arch = ARCHITECTURES[case.arch]
    # later instructions take no tile of less than 64 rows
    tensor = arch.tensor if launch.arguments.get("BLOCK_M", 0) >= SMALLEST_WGMMA else "[HD]MMA|v_mfma"
    counted = count(instructions, arch._replace(tensor=tensor))
    return Figures("x".join(map(str, sizes)), launch.warps, launch.stages, *usage, *counted, digest_of(case))


# what came out


def measure_nvidia(compiled: Any) -> tuple[Usage, list[Instruction]]:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as cubin:
        cubin.write(compiled.asm["cubin"])
        cubin.flush()
        usage = run_tool("cuobjdump", "-res-usage", cubin.name)
        instructions = parse_sass(run_tool("nvdisasm", "-c", cubin.name))
    registers = max(int(x) for x in re.findall(r"REG:(\d+)", usage))
    return Usage(registers, matching(instructions, "STL|LDL"), 0, compiled.metadata.shared), instructions


def measure_amd(compiled: Any) -> tuple[Usage, list[Instruction]]:
    code = compiled.asm["amdgcn"]

    def figure(name: str) -> int:
        return int(re.findall(rf"\.{name}:\s+(\d+)", code)[0])

    spills = (figure("vgpr_spill_count"), figure("sgpr_spill_count"))
    return Usage(figure("vgpr_count"), *spills, compiled.metadata.shared), parse_amd(code)


def count(instructions: list[Instruction], arch: Architecture) -> tuple[int, int, int, int]:
    """The instructions that Figures names, in its order."""
    loop = main_loop(instructions, arch.tensor) or main_loop(instructions, arch.fma)
    return matching(loop, arch.tensor), matching(loop, arch.fma), matching(instructions, arch.load), len(loop)


def parse_amd(code: str) -> list[Instruction]:
    instructions, label = [], None
    for line in code.splitlines():
        if found := re.match(r"(\.LBB\w+):", line):
            label = found[1]
        elif found := re.match(r"\s+([a-z]\w+)\s*(.*)", line):
            opcode, operands = found.groups()
            if not re.match("[sv]_|ds_|global_|buffer_|flat_|scratch_", opcode):
                continue
            place = re.match(r"\.LBB\w+", operands) if "branch" in opcode else None
            target = place[0] if place else None
            instructions.append(Instruction(label, opcode, target, opcode not in ("s_branch", "s_endpgm")))
            label = None
    return instructions


# the command


def known_figures(seed: str) -> dict[str, Figures]:
    """Of the baseline, without the sample."""
    figures = json.loads(BASELINE.read_text())["figures"]
    return {key: Figures(*values) for key, values in figures.items() if not is_sampled(key, seed)}


def compile_all(arch: str, options: argparse.Namespace) -> dict[str, Figures]:
    found = {}
    known = {} if options.known is None else known_figures(options.known)
    for case in cases(arch, everything=options.everything):
        if options.only is None or re.search(options.only, str(case)):
            if options.tile is not None:
                precision = FORMATS[case.numbers][0]
                tile = tiles.Tile(*map(int, options.tile.split(",")))
                tiles.TABLE[case.kernel][(arch, precision)] = (tiles.Row(case.d, tile, case.banks),)
            figures = known.get(str(case))
            unchanged = figures is not None and figures.digest == digest_of(case)
            found[str(case)] = figures if unchanged else compile_case(case)
            if not options.json:
                print(describe(case, found[str(case)]), flush=True)
    return found


def describe(case: Case, figures: Figures) -> str:
    f = figures
    spills = f"{f.spills} spills" + (f" and {f.scalar_spills} scalar" if f.scalar_spills else "")
    size = f"{f.tile}, {f.warps} warps, {f.stages} stages"
    code = f"{f.tensor} tensor and {f.fma} fma of {f.loop} in the loop, {f.async_loads} async loads"
    return f"{case!s:58} {size:34} {f.registers:3} registers, {spills}, {f.shared / 1024:5.1f} KiB shared, {code}"


def compile_in_processes(archs: Iterable[str]) -> dict[str, Figures]:
    """Triton keeps what it compiled by device, whatever that device is: one process an architecture, two at a time."""

    def run(arch: str) -> dict[str, Figures]:
        output = subprocess.run([sys.executable, __file__, arch, "--json"], check=True, stdout=subprocess.PIPE).stdout
        return {key: Figures(**figures) for key, figures in json.loads(output).items()}

    with ThreadPoolExecutor(2) as pool:
        return {key: figures for found in pool.map(run, archs) for key, figures in found.items()}


def write_baseline(found: dict[str, Figures]) -> None:
    lines = [f" {json.dumps(key)}: {json.dumps(figures)}" for key, figures in found.items()]
    head = json.dumps({"triton": triton.__version__, "fields": Figures._fields})[:-1]
    BASELINE.write_text(head + ', "figures": {\n' + ",\n".join(lines) + "\n}}\n")


def markdown(found: dict[str, Figures]) -> str:
    """A line for each kernel, architecture, format and D: registers and shared memory of the variant with most."""
    lines = ["| kernel | architecture | numbers | D | tile | warps | stages | registers | shared KiB | tensor |"]
    lines.append("|---|---|---|---|---|---|---|---|---|---|")
    groups: dict[tuple[str, ...], list[Figures]] = {}
    for key, figures in found.items():
        match = re.fullmatch(r"(\w+) (\w+) \((.*)\) (\w+) D=(\d+)", key)
        assert match is not None
        arch, kernel, variant, numbers, d = match.groups()
        is_volume = kernel.startswith("volume")
        # the others have tiles of another line
        others = ("self-similarity", "bias only", "two temperatures", "ranks")
        if is_volume or (numbers != "fp16" and variant not in others):
            kernel = f"{kernel} {variant}" if is_volume else kernel
            groups.setdefault((kernel, arch, numbers, d), []).append(figures)
    for key_parts in sorted(groups, key=lambda parts: [*VARIANTS, "merge", "macro_sums"].index(parts[0].split()[0])):
        variants = groups[key_parts]
        f = variants[0]
        registers, shared = max(x.registers for x in variants), max(x.shared for x in variants)
        instructions = f.tensor or f"{f.fma} fma"
        cells = [*key_parts, f.tile, f.warps, f.stages, registers, f"{shared / 1024:.0f}", instructions]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arch", nargs="?", choices=ARCHITECTURES)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", metavar="REGEX", help="cases whose name holds it")
    parser.add_argument("--tile", metavar="M,N,D,WARPS,STAGES", help="instead of that of the table")
    parser.add_argument("--known", metavar="SEED", help="take the baseline's figures where nothing changed, see above")
    parser.add_argument("--everything", action="store_true", help="every format and variant")
    parser.add_argument("--write-baseline", action="store_true")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    if options.write_baseline or options.markdown:
        found = compile_in_processes(ARCHITECTURES)
        if options.write_baseline:
            write_baseline(found)
        if options.markdown:
            print(markdown(found))
    elif options.arch is None:
        parser.error("which architecture?")
    else:
        found = compile_all(options.arch, options)
        if options.json:
            print(json.dumps({key: figures._asdict() for key, figures in found.items()}))


if __name__ == "__main__":
    if "TRITON_CACHE_DIR" in os.environ:
        main()
    else:
        with tempfile.TemporaryDirectory() as cache:
            os.environ["TRITON_CACHE_DIR"] = cache
            main()

"""Compiles the Triton kernels for GPUs that need not be here, and counts what the compiler made of them.

    python tests/triton_compiled.py sm_90                 every case of the tile table on one architecture
    python tests/triton_compiled.py sm_90 --json          the same for programs
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
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

os.environ.pop("TRITON_INTERPRET", None)  # read by triton when it is imported: an interpreted kernel has no code

import torch
import triton
from sass import Instruction, main_loop, matching, parse_sass, run_tool
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from contrastive_ops.backends.gpu.kernels import GradientSum, LineSums, MacroPass, Partials, Place, plan_stripes
from contrastive_ops.backends.gpu.view import Lines, Side, View
from contrastive_ops.backends.triton import kernels as launches
from contrastive_ops.backends.triton import tiles
from contrastive_ops.backends.triton.arguments import Target
from contrastive_ops.backends.triton.launch import Launch
from contrastive_ops.backends.triton.macro_pass import MacroLaunches
from contrastive_ops.relations import Clause, ClauseKind
from contrastive_ops.scores import DOT, Score, ScoreKind

BASELINE = Path(__file__).parent / "triton_registers.json"
ROWS, COLUMNS, OPEN_D = 4096, 8192, 1024  # sizes nobody specialises on, and the D of rows without an end
MACRO_ROWS, MACRO_COLUMNS = 2048, 4096  # of a block
SMALLEST_WGMMA = 64  # rows


class Architecture(NamedTuple):
    target: GPUTarget
    shared_limit: int  # bytes that one program can have
    tensor: str  # opcode of the tensor cores
    fma: str  # opcode of a multiply-add without them
    load: str  # opcodes that bring memory to shared memory without passing registers


ARCHITECTURES = {
    "sm_80": Architecture(GPUTarget("cuda", 80, 32), 163 * 1024, "[HD]MMA", "[FD]FMA", "LDGSTS"),
    "sm_86": Architecture(GPUTarget("cuda", 86, 32), 99 * 1024, "[HD]MMA", "[FD]FMA", "LDGSTS"),
    "sm_90": Architecture(GPUTarget("cuda", 90, 32), 227 * 1024, "HGMMA|DMMA", "[FD]FMA", "LDGSTS|UTMALDG"),
    "sm_100": Architecture(GPUTarget("cuda", 100, 32), 227 * 1024, "UTC[A-Z]*MMA|DMMA", "[FD]FMA", "LDGSTS|UTMALDG"),
    "gfx942": Architecture(GPUTarget("hip", "gfx942", 64), 64 * 1024, "v_mfma", "v_(pk_)?fmac?_", "buffer_load.*lds"),
}
# a number format: precision of the tile table, dtype of the embeddings, dtype of the statistics
FORMATS = {
    "bf16": ("half", torch.bfloat16, torch.float32),
    "fp16": ("half", torch.float16, torch.float32),
    "tf32": ("tf32", torch.float32, torch.float32),
    "fp32": ("fp32", torch.float32, torch.float32),
    "fp64": ("fp64", torch.float64, torch.float64),
}
VARIANTS = {
    "statistics": ("both sides", "kept", "self-similarity"),
    "gradient": ("embeddings", "bias only"),
    "macro_gradient": ("block", "kept"),
    "macro_product": ("both sides", "queries only", "K=2"),
    "volume_statistics": ("K={}",),  # the most banks of a row
    "volume_macro_gradient": ("K={}",),
}


class Case(NamedTuple):
    """One kernel as one kind of problem launches it."""

    arch: str
    kernel: str
    variant: str
    numbers: str  # of FORMATS
    d: int

    def __str__(self) -> str:
        return f"{self.arch} {self.kernel} ({self.variant}) {self.numbers} D={self.d}"

    @property
    def banks(self) -> int:
        return int(self.variant[2:]) if self.variant.startswith("K=") else 1


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


class FakeDriver:
    """Names an architecture where triton would ask the GPU."""

    def __init__(self, target: GPUTarget) -> None:
        self.target = target

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int = 0) -> int:
        return 0

    def set_current_device(self, device: int) -> None:
        pass

    def get_active_torch_device(self) -> torch.device:
        return torch.device("meta")


# what is compiled


def cases(arch: str, *, everything: bool = False) -> Iterator[Case]:
    """Kernels, formats, rows of the table and variants; but for `everything` without those whose code another one
    stands for: what tf32, fp16 and fp64 add to a kernel they add to every variant."""
    for kernel in VARIANTS:
        for numbers, (precision, _, _) in FORMATS.items():
            rows = tiles.TABLE[kernel].get((arch, precision), ())
            for row in rows:
                d = OPEN_D if row.max_d == tiles.ANY_D else row.max_d
                # products are kept only where two levels make the gradient
                variants = [variant.format(row.max_banks) for variant in VARIANTS[kernel]]
                variants = [variant for variant in variants if variant != "kept" or d == OPEN_D]
                found = (Case(arch, kernel, variant, numbers, d) for variant in variants if variant != "bias only")
                yield from (case for case in found if everything or adds_code(case))
            # without embedding gradients the gradient kernel takes any D, beyond its table with the tile of the macro
            bias_only = Case(arch, kernel, "bias only", numbers, OPEN_D)
            if rows and kernel == "gradient" and (everything or adds_code(bias_only)):
                yield bias_only
    for numbers in ("fp32", "fp64"):
        yield Case(arch, "merge", "sums", numbers, 1)
        yield Case(arch, "macro_sums", "terms", numbers, 64)


def adds_code(case: Case) -> bool:
    if case.kernel.startswith("volume"):
        return case.numbers == "fp16"  # has most to do: the factor of weights, and the end of its range
    repeats = ("self-similarity", "bias only", "queries only", "K=2")
    return case.numbers in ("bf16", "fp32") or case.variant not in repeats


def build_launch(case: Case) -> Launch:
    """The launch of a problem with i != j as candidates and i == j as positives."""
    precision, dtype, statistics = FORMATS[case.numbers]
    target = Target(case.arch, precision, "tf32" if precision == "tf32" else "ieee")

    def meta(*shape: int, dtype: torch.dtype = statistics) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    def side(embeddings: torch.Tensor, biases_only: bool) -> Side:
        size = embeddings.shape[-2]
        gradients = (None, None, None) if biases_only else (meta(1, size), meta(1, size), meta(1, size))
        return Side(embeddings, Lines(None, *gradients))

    def partials(slots: int, size: int) -> Partials:
        return Partials(*(meta(slots, 1, size) for _ in range(3)))

    is_statistics, is_self = case.kernel.endswith("statistics"), case.variant == "self-similarity"
    num_cols = ROWS if is_self else COLUMNS
    keys, score = meta(1, num_cols, case.d, dtype=dtype), DOT
    if case.kernel.startswith("volume") or case.banks > 1 or case.kernel == "macro_sums":
        keys = meta(1, num_cols, case.banks, case.d, dtype=dtype).transpose(1, 2)
        mixing = meta(1, case.banks * (case.banks + 1) // 2, num_cols)
        score = Score(ScoreKind.VOLUME, meta(1, ROWS), meta(1, num_cols), mixing)
    view = View(
        side(meta(1, ROWS, case.d, dtype=dtype), is_statistics),
        side(keys, is_statistics),
        (Clause(ClauseKind.OFF_DIAGONAL),),
        (Clause(ClauseKind.DIAGONAL),),
        meta(),
        meta() if case.numbers == "fp16" else None,
        score,
    )
    kept = meta(1, ROWS, COLUMNS) if case.variant == "kept" else None
    if is_statistics:
        stripes = plan_stripes(view, launches.TritonKernels(target), is_self, kept is not None)
        rows, columns = partials(stripes.num_col_stripes + is_self, ROWS), partials(stripes.num_row_stripes, COLUMNS)
        columns = rows if is_self else columns
        return launches.statistics_launch(view, target, stripes, rows, columns, kept, is_self)
    if case.kernel == "merge":
        return launches.merge_launch(partials(32, ROWS), meta(1, ROWS), meta(1, ROWS))
    if case.kernel == "gradient" and case.variant == "bias only":
        return launches.gradient_launch(view, target, None, meta(1, ROWS), None)
    if case.kernel == "gradient":
        return launches.gradient_launch(view, target, meta(1, ROWS, case.d, dtype=dtype), None, meta(1, ROWS))
    return build_macro_launch(case, view, target, kept)


def build_macro_launch(case: Case, view: View, target: Target, kept: torch.Tensor | None) -> Launch:
    def meta(*shape: int, dtype: torch.dtype = view.scale.dtype) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    rows, cols = slice(0, MACRO_ROWS), slice(0, MACRO_COLUMNS)
    place = Place(rows, cols, (MACRO_ROWS // 16, MACRO_COLUMNS // 16), 0)
    lines, parts = LineSums(), LineSums()
    if view.score is not DOT:
        lines = LineSums(row_term=meta(1, ROWS), col_term=meta(1, COLUMNS))
        parts = LineSums(row_term=meta(64, rows.stop), col_term=meta(32, cols.stop))
    totals = meta(1, ROWS, case.d), meta(1, case.banks, COLUMNS, case.d)
    d_rows, d_cols = (GradientSum(total, total) for total in totals)
    work = MacroPass(
        [place],
        False,
        kept,
        meta(case.banks, rows.stop, cols.stop, dtype=view.rows.embeddings.dtype),
        meta(1, 256),
        d_rows,
        None if case.variant == "queries only" else d_cols,
        lines,
        parts,
    )
    recorded: list[Launch] = []
    with mock.patch.object(Launch, "run", lambda launch: recorded.append(launch)):
        MacroLaunches(view, target, work).run(0, place)
    name = case.kernel.removeprefix("volume_")
    (found,) = (launch for launch in recorded if launch.kernel.__name__.startswith(name))
    return found


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
    return Figures("x".join(map(str, sizes)), launch.warps, launch.stages, *usage, *counted)


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


def compile_all(arch: str, options: argparse.Namespace) -> dict[str, Figures]:
    found = {}
    for case in cases(arch, everything=options.everything):
        if options.only is None or re.search(options.only, str(case)):
            if options.tile is not None:
                precision = FORMATS[case.numbers][0]
                tile = tiles.Tile(*map(int, options.tile.split(",")))
                tiles.TABLE[case.kernel][(arch, precision)] = (tiles.Row(case.d, tile, case.banks),)
            found[str(case)] = compile_case(case)
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
    baseline = {
        "triton": triton.__version__,
        "registers": {key: f.registers for key, f in found.items()},
        "scalar_spills": {key: f.scalar_spills for key, f in found.items() if f.scalar_spills},
    }
    BASELINE.write_text(json.dumps(baseline, indent=1) + "\n")


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
        if is_volume or (numbers != "fp16" and variant not in ("self-similarity", "bias only")):
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

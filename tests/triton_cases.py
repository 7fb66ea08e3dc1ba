"""Every kernel of the Triton backend as problems launch it, on tensors without data, for the gates on compiled code."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple
from unittest import mock

os.environ.pop("TRITON_INTERPRET", None)  # read by triton when it is imported: an interpreted kernel has no code

import torch
from triton.backends.compiler import GPUTarget

from contrastive_ops.backends.gpu.kernels import GradientSum, LineSums, MacroPass, Place, State, plan_stripes
from contrastive_ops.backends.gpu.view import LineValues, View
from contrastive_ops.backends.triton import kernels as launches
from contrastive_ops.backends.triton import tiles
from contrastive_ops.backends.triton.arguments import Target
from contrastive_ops.backends.triton.launch import Launch
from contrastive_ops.backends.triton.macro_pass import MacroLaunches
from contrastive_ops.problem import Problem, Side
from contrastive_ops.reductions import CountAbove, Largest, LogSumExp, Reduction, ScoreSum
from contrastive_ops.relations import diagonal, off_diagonal
from contrastive_ops.scores import DOT, VolumeScore

ROWS, COLUMNS, OPEN_D = 4096, 8192, 1024  # sizes nobody specialises on, and the D of rows without an end
MACRO_ROWS, MACRO_COLUMNS = 2048, 4096  # of a block


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
    "reduce": ("both sides", "kept", "self-similarity", "two temperatures", "ranks"),
    "gradient": ("embeddings", "bias only", "two temperatures"),
    "macro_gradient": ("block", "kept", "two temperatures"),
    "macro_product": ("both sides", "queries only", "K=2"),
    "volume_reduce": ("K={}",),  # the most banks of a row
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
    repeats = ("self-similarity", "bias only", "queries only", "K=2", "two temperatures", "ranks")
    return case.numbers in ("bf16", "fp32") or case.variant not in repeats


def build_launch(case: Case) -> Launch:
    """The launch of a problem with i != j as candidates and i == j as positives."""
    precision, dtype, statistics = FORMATS[case.numbers]
    target = Target(case.arch, precision, "tf32" if precision == "tf32" else "ieee")

    def meta(*shape: int, dtype: torch.dtype = statistics) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    is_self = case.variant == "self-similarity"
    num_cols = ROWS if is_self else COLUMNS
    keys, score = meta(1, 1, num_cols, case.d, dtype=dtype), DOT
    if case.kernel.startswith("volume") or case.banks > 1 or case.kernel == "macro_sums":
        keys = meta(1, num_cols, case.banks, case.d, dtype=dtype).transpose(1, 2)
        mixing = meta(1, case.banks * (case.banks + 1) // 2, num_cols)
        score = VolumeScore(meta(1, ROWS), meta(1, num_cols), mixing)
    reductions = case_reductions(case, meta(), meta(1, ROWS), meta(1, num_cols))
    rows, cols = (
        tuple(LineValues(meta(1, size) if r.slope_has_result else None, meta(1, size)) for r in reductions)
        for size in (ROWS, num_cols)
    )
    problem = Problem(
        Side(meta(1, 1, ROWS, case.d, dtype=dtype)), Side(keys), meta(), score, reductions, self_similarity=is_self
    )
    view = View(problem, meta() if case.numbers == "fp16" else None, rows, cols)
    kept = meta(1, ROWS, COLUMNS) if case.variant == "kept" else None

    def states(slots: int, size: int) -> tuple[State, ...]:
        return tuple(
            tuple(meta(slots, 1, size, dtype=r.result_dtype(statistics)) for _ in range(r.num_states))
            for r in reductions
        )

    if case.kernel.endswith("reduce"):
        stripes = plan_stripes(view, launches.TritonKernels(target), is_self, kept is not None)
        row_states = states(stripes.num_col_stripes + is_self, ROWS)
        col_states = row_states if is_self else states(stripes.num_row_stripes, COLUMNS)
        return launches.reduce_launch(view, target, stripes, row_states, col_states, kept, is_self)
    if case.kernel == "merge":
        results = [meta(1, ROWS, dtype=r.result_dtype(statistics)) for r in reductions]
        return launches.merge_launch(view, states(32, ROWS), results)
    if case.kernel == "gradient" and case.variant == "bias only":
        return launches.gradient_launch(view, target, None, meta(1, ROWS), None)
    if case.kernel == "gradient":
        return launches.gradient_launch(view, target, meta(1, ROWS, case.d, dtype=dtype), None, meta(1, ROWS))
    return build_macro_launch(case, view, target, kept)


def case_reductions(
    case: Case, factor: torch.Tensor, row_values: torch.Tensor, col_values: torch.Tensor
) -> tuple[Reduction, ...]:
    """Rows and columns of each."""
    both = {"rows": True, "columns": True}
    usual = LogSumExp(off_diagonal(), **both), ScoreSum(diagonal(), **both)
    if case.variant == "two temperatures":
        return (*usual, LogSumExp(off_diagonal(), factor=factor, **both))
    if case.variant == "ranks":
        return (
            Largest(diagonal(), **both),
            CountAbove(off_diagonal(), **both, row_values=row_values, col_values=col_values),
        )
    return usual


def build_macro_launch(case: Case, view: View, target: Target, kept: torch.Tensor | None) -> Launch:
    def meta(*shape: int, dtype: torch.dtype = view.scale.dtype) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    rows, cols = slice(0, MACRO_ROWS), slice(0, MACRO_COLUMNS)
    place = Place(rows, cols, (MACRO_ROWS // 16, MACRO_COLUMNS // 16), 0)
    lines, parts = LineSums(), LineSums()
    if view.problem.score is not DOT:
        lines = LineSums(row_term=meta(1, ROWS), col_term=meta(1, COLUMNS))
        parts = LineSums(row_term=meta(64, rows.stop), col_term=meta(32, cols.stop))
    totals = meta(1, ROWS, case.d), meta(1, case.banks, COLUMNS, case.d)
    d_rows, d_cols = (GradientSum(total, total) for total in totals)
    work = MacroPass(
        [place],
        False,
        kept,
        meta(case.banks, rows.stop, cols.stop, dtype=view.dtype),
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

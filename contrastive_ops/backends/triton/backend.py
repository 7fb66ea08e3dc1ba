"""Policy and memory of the Triton backend: reasons, outputs, workspaces, and which launches make a pass."""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from contrastive_ops.backends.base import Wanted
from contrastive_ops.backends.triton.tiles import INTERPRETER, MACRO_BYTES, MACRO_ROWS
from contrastive_ops.problem import Gradients, Problem, Statistics

if TYPE_CHECKING:
    from contrastive_ops.backends.triton.launch import Target, View

INTERPRET_VARIABLE = "TRITON_INTERPRET"  # triton's own
FP16_HEADROOM = 2.0**13  # largest upstream gradient after scaling: four of them sum to less than 65504


class TritonBackend:
    name = "triton"
    summary = "Triton kernels for NVIDIA (sm_80 and later) and AMD (gfx9) GPUs; O((M+N)*D) memory"

    def reasons(self, problem: Problem) -> list[str]:
        reasons = []
        if not _has_triton():
            reasons.append("triton is not installed: pip install 'triton>=3.8'")
        device = problem.queries.device
        if device.type == "cuda":
            reasons += _device_reasons(device)
        elif device.type != "cpu":
            reasons.append(f"tensors must be on a CUDA or HIP device, got {device}")
        elif not _is_interpreted():
            reasons.append(f"tensors must be on a CUDA or HIP device, got cpu ({INTERPRET_VARIABLE}=1 is for tests)")
        return reasons

    def state_bytes(self, problem: Problem) -> int:
        return 0  # reading scores back costs a GPU more than computing them again

    def forward(self, problem: Problem) -> tuple[Statistics, Tensor | None]:
        batch, m, n, _ = problem.sizes
        if batch * m * n == 0:
            return _empty_statistics(problem), None
        kernels, target = _launches(), _target(problem)
        problem = _with_unit_stride(problem)
        has_sums = problem.positives is not None
        row_lines = kernels.Lines(problem.row_bias, None, None, None)
        col_lines = kernels.Lines(problem.col_bias, None, None, None)
        if problem.self_similarity:
            view = kernels.view_rows(problem, row_lines, row_lines)
            lse, total, _, _ = self._statistics(view, target, columns=False, has_sums=has_sums, self_similarity=True)
            # one direction is the other; op outputs must not share memory
            both = problem.rows and problem.columns
            second = [x.clone() if both and x is not None else x for x in (lse, total)]
            found = Statistics(lse, total, second[0], second[1])
        elif not problem.rows:  # the transposed problem has rows only, and those stay in registers
            view = kernels.view_columns(problem, row_lines, col_lines)
            col_lse, col_sum, _, _ = self._statistics(view, target, columns=False, has_sums=has_sums)
            found = Statistics(None, None, col_lse, col_sum)
        else:
            view = kernels.view_rows(problem, row_lines, col_lines)
            found = self._statistics(view, target, columns=problem.columns, has_sums=has_sums)
        rows, columns = problem.rows, problem.columns
        return Statistics(
            found.row_lse if rows else None,
            found.row_sum if rows else None,
            found.col_lse if columns else None,
            found.col_sum if columns else None,
        ), None

    def _statistics(
        self, view: View, target: Target, *, columns: bool, has_sums: bool, self_similarity: bool = False
    ) -> Statistics:
        """Row statistics of the view, and column statistics if asked for."""
        kernels = _launches()
        batch, m, n, _ = view.sizes
        new = view.scale.new_empty
        stripes = kernels.plan_stripes(view, target, self_similarity)

        def partials(slots: int, size: int) -> Any:
            # one allocation each: pieces of one would be aligned or not by chance, and compiled for both
            top, total = new((slots, batch, size)), new((slots, batch, size))
            return kernels.Partials(top, total, torch.zeros_like(top) if has_sums else None)

        nothing = kernels.Partials(None, None, None)
        row_partials = partials(stripes.num_col_stripes + self_similarity, m)
        col_partials = partials(stripes.num_row_stripes, n) if columns else nothing
        if self_similarity:
            col_partials = row_partials
        row_lse, col_lse = new((batch, m)), new((batch, n)) if columns else None
        row_sum = new((batch, m)) if has_sums else None
        col_sum = new((batch, n)) if has_sums and columns else None
        with _device_of(view.scale):
            kernels.statistics_launch(view, target, stripes, row_partials, col_partials, self_similarity).run()
            kernels.merge_launch(row_partials, row_lse, row_sum).run()
            if col_lse is not None:
                kernels.merge_launch(col_partials, col_lse, col_sum).run()
        return Statistics(row_lse, row_sum, col_lse, col_sum)

    def backward(
        self, problem: Problem, statistics: Statistics, upstream: Statistics, state: Tensor, wanted: Wanted
    ) -> Gradients:
        batch, m, n, d = problem.sizes
        if batch * m * n == 0:
            return _zero_gradients(problem, wanted)
        kernels, target = _launches(), _target(problem)
        problem = _with_unit_stride(problem)
        unit = _unit(problem, upstream)
        row_lines = _lines(problem.row_bias, statistics.row_lse, upstream.row_lse, upstream.row_sum)
        col_lines = _lines(problem.col_bias, statistics.col_lse, upstream.col_lse, upstream.col_sum)
        if problem.self_similarity:
            # rows and columns are one, so their upstream gradients add up, and every pair counts in both roles
            row_lines = col_lines = _lines(
                problem.row_bias,
                statistics.row_lse if statistics.row_lse is not None else statistics.col_lse,
                _sum(upstream.row_lse, upstream.col_lse),
                _sum(upstream.row_sum, upstream.col_sum),
            )
        by_rows = kernels.view_rows(problem, row_lines, col_lines, unit)
        by_columns = kernels.view_columns(problem, row_lines, col_lines, unit)
        new = problem.scale.new_empty
        drow_bias = new((batch, m)) if wanted.row_bias else None
        dcol_bias = new((batch, n)) if wanted.col_bias else None
        dqueries = problem.queries.new_empty((batch, m, d)) if wanted.queries else None
        dkeys = problem.keys.new_empty((batch, n, d)) if wanted.keys else None
        in_two_levels = (wanted.queries or wanted.keys) and not kernels.owns_rows(target, d)

        dscale_terms: Tensor | None = None
        with _device_of(problem.scale):
            if in_two_levels:
                dscale_terms = self._macro_gradients(by_rows, target, problem.self_similarity, dqueries, dkeys, wanted)
            # one launch a side; the one that runs anyway brings the terms of dscale
            for view, gradient, bias, brings_dscale in (
                (by_rows, dqueries, drow_bias, wanted.queries or not wanted.keys),
                (by_columns, dkeys, dcol_bias, wanted.keys and not wanted.queries),
            ):
                gradient = None if in_two_levels else gradient
                terms = new(view.sizes[:2]) if wanted.scale and brings_dscale and not in_two_levels else None
                if gradient is not None or bias is not None or terms is not None:
                    kernels.gradient_launch(view, target, gradient, bias, terms).run()
                dscale_terms = terms if terms is not None else dscale_terms
            dscale = None
            if wanted.scale:
                assert dscale_terms is not None
                dscale = dscale_terms.sum(dtype=torch.float64).to(problem.scale.dtype)
                if problem.self_similarity and not in_two_levels:
                    dscale = dscale / 2
        return Gradients(dqueries, dkeys, dscale, drow_bias, dcol_bias)

    def _macro_gradients(
        self,
        view: View,
        target: Target,
        self_similarity: bool,
        dqueries: Tensor | None,
        dkeys: Tensor | None,
        wanted: Wanted,
    ) -> Tensor | None:
        """Both embedding gradients, macro-block after macro-block: dS once, then dQ += dS K and dK += dS^T Q.

        In self-similarity dS holds both roles of a pair, so blocks below the diagonal are mirror images.
        Returns the terms of dscale, if it is wanted.
        """
        kernels = _launches()
        batch, m, n, d = view.sizes
        queries, keys = view.rows.embeddings, view.cols.embeddings
        height, width = _macro_shape(queries.dtype, self_similarity)
        new = view.scale.new_empty
        ds = queries.new_empty((height, width))
        blocks = [
            (b, slice(i, min(i + height, m)), slice(j, min(j + width, n)))
            for b in range(batch)
            for i in range(0, m, height)
            for j in range(i if self_similarity else 0, n, width)
        ]
        grids = [kernels.macro_gradient_grid(target, d, r.stop - r.start, c.stop - c.start) for _, r, c in blocks]
        counts = [grid[0] * grid[1] for grid in grids]
        terms = new((sum(counts),)) if wanted.scale else None
        # accumulated in the statistics dtype, in place where that is the dtype of the embeddings
        dq_sum = None if dqueries is None else new((batch, m, d), dtype=view.scale.dtype).zero_()
        dk_sum = None if dkeys is None else new((batch, n, d), dtype=view.scale.dtype).zero_()
        start = 0
        for (b, rows, cols), count in zip(blocks, counts, strict=True):
            block = ds[: rows.stop - rows.start, : cols.stop - cols.start]
            part = None if terms is None else terms[start : start + count]
            start += count
            # the sum over both roles counts a pair twice, and only half of the blocks off the diagonal are visited
            weight = 0.5 if self_similarity and rows == cols else 1.0
            one = view.at(b)
            kernels.macro_gradient_launch(one, target, rows, cols, block, part, weight).run()
            if dq_sum is not None:
                kernels.macro_product_launch(target, block, keys[b, cols], dq_sum[b, rows], False).run()
                if self_similarity and rows != cols:
                    kernels.macro_product_launch(target, block, queries[b, rows], dq_sum[b, cols], True).run()
            if dk_sum is not None:
                kernels.macro_product_launch(target, block, queries[b, rows], dk_sum[b, cols], True).run()
        factor = view.scale if view.unit is None else view.scale / view.unit
        for total, gradient in ((dq_sum, dqueries), (dk_sum, dkeys)):
            if total is not None and gradient is not None:
                gradient.copy_(total.mul_(factor))
        return terms


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


def _is_interpreted() -> bool:
    return os.environ.get(INTERPRET_VARIABLE, "0") == "1"


@cache
def _device_reasons(device: torch.device) -> list[str]:
    """Why the kernels do not run on this GPU."""
    if torch.version.hip is not None:
        arch = torch.cuda.get_device_properties(device).gcnArchName
        return [] if arch.startswith("gfx9") else [f"AMD GPUs of the gfx9 family are supported, got {arch}"]
    if not torch.cuda.is_available():
        return []  # a fake tensor: nothing will run
    major, minor = torch.cuda.get_device_capability(device)
    return [] if major >= 8 else [f"NVIDIA GPUs of compute capability 8.0 and later are supported, got {major}.{minor}"]


@cache
def _launches() -> Any:
    """Imports triton, which a process that never uses this backend need not do."""
    from contrastive_ops.backends.triton import launch

    return launch


def _target(problem: Problem) -> Target:
    dtype = problem.queries.dtype
    if dtype == torch.float32:
        precision = "fp32" if torch.get_float32_matmul_precision() == "highest" else "tf32"
    else:
        precision = "fp64" if dtype == torch.float64 else "half"
    arch = INTERPRETER if problem.queries.device.type == "cpu" else _arch(problem.queries.device)
    target: Target = _launches().Target(arch, precision, "tf32" if precision == "tf32" else "ieee")
    return target


@cache
def _arch(device: torch.device) -> str:
    """The row of the tile table: the newest architecture listed that this one is not older than."""
    if torch.version.hip is not None:
        return "gfx942"
    major, minor = torch.cuda.get_device_capability(device)
    # 8.6, 8.9 and 12.x share the instructions of 8.0 but hold 99 KB of shared memory
    return {8: "sm_80" if minor == 0 else "sm_86", 9: "sm_90", 12: "sm_86"}.get(major, "sm_100")


def _device_of(tensor: Tensor) -> Any:
    return torch.cuda.device_of(tensor)  # no CUDA call for a CPU tensor


def _with_unit_stride(problem: Problem) -> Problem:
    """Kernels read rows of D neighbouring numbers; anything else is copied once."""
    if problem.queries.stride(2) == 1 and problem.keys.stride(2) == 1:
        return problem
    queries = problem.queries.contiguous()
    keys = queries if problem.self_similarity else problem.keys.contiguous()
    return problem._replace(queries=queries, keys=keys)


def _lines(bias: Tensor | None, lse: Tensor | None, d_lse: Tensor | None, d_sum: Tensor | None) -> Any:
    """Contiguous vectors of one side; the lse only where its gradient needs it."""
    values = (bias, lse if d_lse is not None else None, d_lse, d_sum)
    return _launches().Lines(*(None if x is None else x.contiguous() for x in values))


def _sum(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    return second if first is None else first if second is None else first + second


def _unit(problem: Problem, upstream: Statistics) -> Tensor | None:
    """Factor of dS before it is rounded to float16, whose range ends at 6e-8: brings the largest upstream gradient to
    FP16_HEADROOM. The gradients are divided by it in float32. None for the other dtypes, which need no care."""
    given = [x for x in upstream if x is not None]
    if problem.queries.dtype != torch.float16 or not given:
        return None
    largest = torch.stack([x.abs().max() for x in given]).max()
    return FP16_HEADROOM / largest.clamp(min=1e-30)


def _macro_shape(dtype: torch.dtype, self_similarity: bool) -> tuple[int, int]:
    """Rows and columns of a macro-block; squares in self-similarity, where both are cut alike."""
    return MACRO_ROWS, MACRO_ROWS if self_similarity else MACRO_BYTES // (dtype.itemsize * MACRO_ROWS)


def _empty_statistics(problem: Problem) -> Statistics:
    batch, m, n, _ = problem.sizes
    new, has_sums = problem.scale.new_full, problem.positives is not None
    return Statistics(
        new((batch, m), -torch.inf) if problem.rows else None,
        new((batch, m), 0.0) if problem.rows and has_sums else None,
        new((batch, n), -torch.inf) if problem.columns else None,
        new((batch, n), 0.0) if problem.columns and has_sums else None,
    )


def _zero_gradients(problem: Problem, wanted: Wanted) -> Gradients:
    batch, m, n, _ = problem.sizes
    new = problem.scale.new_zeros
    return Gradients(
        torch.zeros_like(problem.queries) if wanted.queries else None,
        torch.zeros_like(problem.keys) if wanted.keys else None,
        new(()) if wanted.scale else None,
        new((batch, m)) if wanted.row_bias else None,
        new((batch, n)) if wanted.col_bias else None,
    )

"""Policy and memory of the GPU backends: outputs, workspaces, and which launches make a pass."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from contrastive_ops.backends.base import Wanted
from contrastive_ops.backends.gpu.kernels import Kernels, LineSums, Partials, plan_stripes
from contrastive_ops.backends.gpu.macro import Totals, macro_gradients
from contrastive_ops.backends.gpu.view import Lines, View, map_terms, view_columns, view_rows
from contrastive_ops.problem import Gradients, Problem
from contrastive_ops.scores import ScoreKind

FP16_HEADROOM = 2.0**13  # largest upstream gradient after scaling: four of them sum to less than 65504
MAX_BATCH = 65535  # of one launch: the batch is the second dimension of its grid
LARGEST_SLOPE = 2.0**12  # |q_i| over the least distance that float32 tells from 0: |q_i|^2 less its last bit is 0


class GpuBackend(ABC):
    """A backend whose kernels visit tiles of the score matrix; a subclass says which kernels, and when they can run."""

    name: str
    summary: str

    @abstractmethod
    def missing(self) -> str | None: ...

    @abstractmethod
    def reasons(self, problem: Problem) -> list[str]: ...

    @abstractmethod
    def kernels(self, problem: Problem) -> Kernels:
        """The kernels for this dtype and device."""

    def state_bytes(self, problem: Problem) -> int:
        """All products <q_i, k_j> where keeping them pays and the budget holds them, else none: keeping costs the
        score pass its largest tiles. The passes that start from the columns keep none, nor do scores of other kinds."""
        batch, m, n, d = problem.sizes
        starts_from_rows = problem.rows and not problem.self_similarity and _has_two_views(problem)
        if batch > MAX_BATCH or not starts_from_rows or not self.kernels(problem).keeps_products(d):
            return 0
        size = batch * m * n * problem.scale.itemsize
        # `size` if it is within the budget, without a branch on M or N: a compiled graph serves every shape
        fits: int = torch.sym_min(1, problem.workspace_bytes // torch.sym_max(1, size))
        return fits * size

    def forward(self, problem: Problem) -> tuple[Statistics, Tensor | None]:
        batch, m, n, _ = problem.sizes
        if batch * m * n == 0:
            return _empty_statistics(problem), None
        if batch > MAX_BATCH:
            part_statistics = [self.forward(_part(problem, entries))[0] for entries in _launchable(batch)]
            return Statistics(*map(_concatenated, zip(*part_statistics, strict=True))), None
        kernels = self.kernels(problem)
        state = problem.queries.new_empty((self.state_bytes(problem),), dtype=torch.uint8)
        problem = _with_unit_stride(problem)
        row_lines = _lines(problem.row_bias, None, None, None)
        col_lines = _lines(problem.col_bias, None, None, None)
        has_sums = problem.positives is not None
        if problem.self_similarity:
            view = view_rows(problem, row_lines, row_lines)
            lse, total, _, _ = _statistics(view, kernels, columns=False, has_sums=has_sums, self_similarity=True)
            # one direction is the other; op outputs must not share memory
            both = problem.rows and problem.columns
            second = [x.clone() if both and x is not None else x for x in (lse, total)]
            found = Statistics(lse, total, second[0], second[1])
        elif not problem.rows and _has_two_views(problem):  # transposed it has rows only, and those stay in registers
            view = view_columns(problem, row_lines, col_lines)
            col_lse, col_sum, _, _ = _statistics(view, kernels, columns=False, has_sums=has_sums)
            found = Statistics(None, None, col_lse, col_sum)
        else:
            view = view_rows(problem, row_lines, col_lines)
            kept = _kept(problem, state)
            found = _statistics(view, kernels, columns=problem.columns, has_sums=has_sums, kept=kept)
        rows, columns = problem.rows, problem.columns
        return Statistics(
            found.row_lse if rows else None,
            found.row_sum if rows else None,
            found.col_lse if columns else None,
            found.col_sum if columns else None,
        ), state

    def backward(
        self, problem: Problem, statistics: Statistics, upstream: Statistics, state: Tensor, wanted: Wanted
    ) -> Gradients:
        batch, m, n, d = problem.sizes
        if batch * m * n == 0:
            return _zero_gradients(problem, wanted)
        if batch > MAX_BATCH:
            parts = [
                self.backward(
                    _part(problem, entries),
                    Statistics(*(None if x is None else x[entries] for x in statistics)),
                    Statistics(*(None if x is None else x[entries] for x in upstream)),
                    state,
                    wanted,
                )
                for entries in _launchable(batch)
            ]
            scales = [part.scale for part in parts if part.scale is not None]
            joined = Gradients(*map(_concatenated, zip(*(part._replace(scale=None) for part in parts), strict=True)))
            return joined._replace(scale=torch.stack(scales).sum(0) if scales else None)
        kernels = self.kernels(problem)
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
        by_rows = view_rows(problem, row_lines, col_lines, unit)
        new, dtype = problem.scale.new_empty, wanted.dtype or problem.queries.dtype
        drow_bias = new((batch, m)) if wanted.row_bias else None
        dcol_bias = new((batch, n)) if wanted.col_bias else None
        drow_term = new((batch, m)) if wanted.row_term else None
        dcol_term = new((batch, n)) if wanted.col_term else None
        dqueries = new((batch, m, d), dtype=dtype) if wanted.queries else None
        dkeys = new(problem.keys.shape, dtype=dtype) if wanted.keys else None
        two_views = _has_two_views(problem)
        in_two_levels = not two_views or ((wanted.queries or wanted.keys) and not kernels.owns_rows(d))

        dscale_terms: Tensor | None = None
        with _device_of(problem.scale):
            if in_two_levels:
                # where keys can own rows as well, the biases of each side have a launch of their own below
                lines = LineSums() if two_views else LineSums(drow_bias, dcol_bias, drow_term, dcol_term)
                totals, kept = Totals(dqueries, dkeys, lines), _kept(problem, state)
                dscale_terms = macro_gradients(by_rows, kernels, totals, kept, problem.self_similarity, wanted.scale)
            if two_views:
                by_columns = view_columns(problem, row_lines, col_lines, unit)
                # one launch a side; the one that runs anyway brings the terms of dscale
                for view, gradient, bias, brings_dscale in (
                    (by_rows, dqueries, drow_bias, wanted.queries or not wanted.keys),
                    (by_columns, dkeys, dcol_bias, wanted.keys and not wanted.queries),
                ):
                    gradient = None if in_two_levels else gradient
                    terms = new(view.sizes[:2]) if wanted.scale and brings_dscale and not in_two_levels else None
                    if gradient is not None or bias is not None or terms is not None:
                        kernels.gradient(view, gradient, bias, terms)
                    dscale_terms = terms if terms is not None else dscale_terms
            dscale = None
            if wanted.scale:
                assert dscale_terms is not None
                dscale = dscale_terms.sum(dtype=torch.float64).to(problem.scale.dtype)
                if problem.self_similarity and not in_two_levels:
                    dscale = dscale / 2
        return Gradients(dqueries, dkeys, dscale, drow_bias, dcol_bias, drow_term, dcol_term)


def _has_two_views(problem: Problem) -> bool:
    """Whether keys can own the rows as well: an inner product has no roles, but no other score is its own transpose."""
    return problem.score.kind is ScoreKind.DOT


def _launchable(batch: int) -> list[slice]:
    return [slice(start, min(start + MAX_BATCH, batch)) for start in range(0, batch, MAX_BATCH)]


def _part(problem: Problem, entries: slice) -> Problem:
    """Some entries of the batch."""
    queries = problem.queries[entries]
    return problem._replace(
        queries=queries,
        keys=queries if problem.self_similarity else problem.keys[entries],
        row_bias=None if problem.row_bias is None else problem.row_bias[entries],
        col_bias=None if problem.col_bias is None else problem.col_bias[entries],
        candidates=problem.candidates.for_batch(entries),
        positives=None if problem.positives is None else problem.positives.for_batch(entries),
        score=map_terms(problem.score, lambda term: term[entries]),
        workspace_bytes=0,
    )


def _concatenated(parts: tuple[Tensor | None, ...]) -> Tensor | None:
    present = [part for part in parts if part is not None]
    return torch.cat(present) if present else None


def _statistics(
    view: View,
    kernels: Kernels,
    *,
    columns: bool,
    has_sums: bool,
    self_similarity: bool = False,
    kept: Tensor | None = None,
) -> Statistics:
    """Row statistics of the view, and column statistics if asked for."""
    batch, m, n, _ = view.sizes
    new = view.scale.new_empty
    stripes = plan_stripes(view, kernels, self_similarity, kept is not None)

    def partials(slots: int, size: int) -> Partials:
        # one allocation each: pieces of one would be aligned or not by chance, and compiled for both
        top, total = new((slots, batch, size)), new((slots, batch, size))
        return Partials(top, total, new((slots, batch, size)) if has_sums else None)

    row_partials = partials(stripes.num_col_stripes + self_similarity, m)
    col_partials = partials(stripes.num_row_stripes, n) if columns else Partials(None, None, None)
    if self_similarity:
        col_partials = row_partials
    row_lse, col_lse = new((batch, m)), new((batch, n)) if columns else None
    row_sum = new((batch, m)) if has_sums else None
    col_sum = new((batch, n)) if has_sums and columns else None
    with _device_of(view.scale):
        kernels.statistics(view, stripes, row_partials, col_partials, kept, self_similarity)
        kernels.merge(row_partials, row_lse, row_sum)
        if col_lse is not None:
            kernels.merge(col_partials, col_lse, col_sum)
    return Statistics(row_lse, row_sum, col_lse, col_sum)


def _kept(problem: Problem, state: Tensor) -> Tensor | None:
    """`[B, M, N]`: the products, if the state holds them."""
    batch, m, n, _ = problem.sizes
    return state.view(problem.scale.dtype).view(batch, m, n) if state.numel() else None


def _device_of(tensor: Tensor) -> Any:
    return torch.cuda.device_of(tensor)  # no CUDA call for a CPU tensor


def _with_unit_stride(problem: Problem) -> Problem:
    """Kernels read rows of D neighbouring numbers; anything else is copied once."""
    if problem.queries.stride(-1) == 1 and problem.keys.stride(-1) == 1:
        return problem
    queries = problem.queries.contiguous()
    keys = queries if problem.self_similarity else problem.keys.contiguous()
    return problem._replace(queries=queries, keys=keys)


def _lines(bias: Tensor | None, lse: Tensor | None, d_lse: Tensor | None, d_sum: Tensor | None) -> Lines:
    """Contiguous vectors of one side; the lse only where its gradient needs it."""
    values = (bias, lse if d_lse is not None else None, d_lse, d_sum)
    return Lines(*(None if x is None else x.contiguous() for x in values))


def _sum(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    return second if first is None else first if second is None else first + second


def _unit(problem: Problem, upstream: Statistics) -> Tensor | None:
    """Factor of weights before they are rounded to float16, whose range ends at 6e-8: brings the largest upstream
    gradient (times what the score makes of it) to FP16_HEADROOM. The gradients are divided by it in float32. None for
    the other dtypes, which need no care."""
    given = [x for x in upstream if x is not None]
    if problem.queries.dtype != torch.float16 or not given:
        return None
    largest = torch.stack([x.abs().max() for x in given]).max()
    unit = FP16_HEADROOM / largest.clamp(min=1e-30)
    return unit if problem.score.kind is ScoreKind.DOT else unit / _largest_weight(problem)


def _largest_weight(problem: Problem) -> Tensor:
    """A bound of |weights^s_ij / dS_ij| = col_term_j |sum_r mixing_j^rs d^r_ij| / rho_ij, where |d_ij| <= |q_i|; at
    least 1."""
    assert problem.score.col_term is not None and problem.score.mixing is not None
    # what is NaN makes NaN of its own column's weights, and must not of the others
    by_column = (problem.score.col_term * problem.score.mixing.norm(dim=1)).nan_to_num(0.0, 0.0, 0.0)
    largest: Tensor = by_column.max() * LARGEST_SLOPE
    return largest.clamp(min=1.0)


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
        torch.zeros_like(problem.queries, dtype=wanted.dtype) if wanted.queries else None,
        torch.zeros_like(problem.keys, dtype=wanted.dtype) if wanted.keys else None,
        new(()) if wanted.scale else None,
        new((batch, m)) if wanted.row_bias else None,
        new((batch, n)) if wanted.col_bias else None,
        new((batch, m)) if wanted.row_term else None,
        new((batch, n)) if wanted.col_term else None,
    )

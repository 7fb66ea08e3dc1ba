"""Policy and memory of the GPU backends: outputs, workspaces, and which launches make a pass."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from contrastive_ops.backends.base import Outer, Wanted
from contrastive_ops.backends.gpu.kernels import Kernels, LineSums, State, are_row_kernels, plan_stripes
from contrastive_ops.backends.gpu.macro import Totals, macro_gradients
from contrastive_ops.backends.gpu.view import View, both_roles, view_of
from contrastive_ops.backends.panels import total_and_gradients
from contrastive_ops.problem import Gradients, Problem, Results
from contrastive_ops.reductions import Reduced, Reduction, ReductionKind

FP16_HEADROOM = 2.0**13  # largest upstream gradient after scaling: four of them sum to less than 65504
MAX_BATCH = 65535  # of one launch: the batch is the second dimension of its grid


class GpuBackend(ABC):
    """A backend whose kernels visit tiles of the score matrix; a subclass says which kernels, and when they can run."""

    name: str
    summary: str
    reductions = (
        ReductionKind.LOG_SUM_EXP,
        ReductionKind.SCORE_SUM,
        ReductionKind.LARGEST,
        ReductionKind.COUNT_ABOVE,
    )

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
        starts_from_rows = problem.wants_rows and not problem.self_similarity and not problem.score.has_roles
        if batch > MAX_BATCH or not starts_from_rows or not self.kernels(problem).keeps_products(d):
            return 0
        size = batch * m * n * problem.scale.itemsize
        # `size` if it is within the budget, without a branch on M or N: a compiled graph serves every shape
        fits: int = torch.sym_min(1, problem.workspace_bytes // torch.sym_max(1, size))
        return fits * size

    def forward(self, problem: Problem) -> tuple[Results, Tensor | None]:
        batch = problem.sizes[0]
        if problem.is_empty:
            return problem.neutral_results(), None
        if batch > MAX_BATCH:
            parts = [self.forward(_part(problem, entries))[0] for entries in _launchable(batch)]
            return tuple(
                Reduced(*map(_concatenated, zip(*each, strict=True))) for each in zip(*parts, strict=True)
            ), None
        kernels, view = self.kernels(problem), view_of(problem)
        state = problem.rows.vectors.new_empty((self.state_bytes(problem),), dtype=torch.uint8)
        if problem.self_similarity:
            found = _score_pass(view, kernels, self_similarity=True)
            # one direction is the other; op outputs must not share memory
            results = tuple(
                Reduced(x.rows if r.rows else None, _second(x.rows, r.rows) if r.columns else None)
                for x, r in zip(found, problem.reductions, strict=True)
            )
        elif not problem.wants_rows and not problem.score.has_roles:
            # transposed it has rows only, and those stay in registers
            results = tuple(Reduced(None, x.rows) for x in _score_pass(view.transposed(), kernels))
        else:
            results = _score_pass(view, kernels, kept=_kept(problem, state))
        return results, state

    def backward(
        self, problem: Problem, results: Results, upstream: Results, state: Tensor, wanted: Wanted
    ) -> Gradients:
        batch, m, n, d = problem.sizes
        if problem.is_empty:
            return _zero_gradients(problem, wanted)
        if batch > MAX_BATCH:
            parts = [
                self.backward(
                    _part(problem, entries), _entries(results, entries), _entries(upstream, entries), state, wanted
                )
                for entries in _launchable(batch)
            ]
            scales = [part.scale for part in parts if part.scale is not None]
            joined = Gradients(*map(_concatenated, zip(*(part._replace(scale=None) for part in parts), strict=True)))
            return joined._replace(scale=torch.stack(scales).sum(0) if scales else None)
        kernels = self.kernels(problem)
        unit = _unit(problem, upstream)
        if problem.self_similarity:  # every pair counts in both roles
            results, upstream = both_roles(results, upstream)
        by_rows = view_of(problem, results, upstream, unit)
        new, dtype = problem.scale.new_empty, wanted.dtype or problem.dtype
        drow_bias = new((batch, m)) if wanted.row_bias else None
        dcol_bias = new((batch, n)) if wanted.col_bias else None
        drow_term = new((batch, m)) if wanted.row_term else None
        dcol_term = new((batch, n)) if wanted.col_term else None
        dqueries = new(problem.rows.vectors.shape, dtype=dtype) if wanted.queries else None
        dkeys = new(problem.cols.vectors.shape, dtype=dtype) if wanted.keys else None
        # where keys can own rows as well, biases and scale alone have a launch of their own for each side
        by_side = kernels if are_row_kernels(kernels) and not problem.score.has_roles else None
        in_two_levels = by_side is None or ((wanted.queries or wanted.keys) and not by_side.owns_rows(d))

        dscale_terms: Tensor | None = None
        with _device_of(problem.scale):
            if in_two_levels:
                lines = LineSums(drow_bias, dcol_bias, drow_term, dcol_term) if by_side is None else LineSums()
                totals, kept = Totals(dqueries, dkeys, lines), _kept(problem, state)
                dscale_terms = macro_gradients(by_rows, kernels, totals, kept, problem.self_similarity, wanted.scale)
            if by_side is not None:
                # one launch a side; the one that runs anyway brings the terms of dscale
                for view, gradient, bias, brings_dscale in (
                    (by_rows, dqueries, drow_bias, wanted.queries or not wanted.keys),
                    (by_rows.transposed(), dkeys, dcol_bias, wanted.keys and not wanted.queries),
                ):
                    gradient = None if in_two_levels else gradient
                    terms = new(view.sizes[:2]) if wanted.scale and brings_dscale and not in_two_levels else None
                    if gradient is not None or bias is not None or terms is not None:
                        by_side.gradient(view, gradient, bias, terms)
                    dscale_terms = terms if terms is not None else dscale_terms
            dscale = None
            if wanted.scale:
                assert dscale_terms is not None
                dscale = dscale_terms.sum(dtype=torch.float64).to(problem.scale.dtype)
                if problem.self_similarity and not in_two_levels:
                    dscale = dscale / 2
        return Gradients(dqueries, dkeys, dscale, drow_bias, dcol_bias, drow_term, dcol_term)

    def total_and_gradients(self, problem: Problem, outer: Outer, wanted: Wanted) -> tuple[Tensor, Gradients]:
        return total_and_gradients(self, problem, outer, wanted)


def _launchable(batch: int) -> list[slice]:
    return [slice(start, min(start + MAX_BATCH, batch)) for start in range(0, batch, MAX_BATCH)]


def _part(problem: Problem, entries: slice) -> Problem:
    """Some entries of the batch."""
    return problem.select(batch=entries)._replace(workspace_bytes=0)


def _entries(results: Results, entries: slice) -> Results:
    return tuple(Reduced(*(None if x is None else x[entries] for x in result)) for result in results)


def _concatenated(parts: tuple[Tensor | None, ...]) -> Tensor | None:
    present = [part for part in parts if part is not None]
    return torch.cat(present) if present else None


def _second(found: Tensor | None, is_used: bool) -> Tensor | None:
    return found.clone() if is_used and found is not None else found


def _score_pass(view: View, kernels: Kernels, *, self_similarity: bool = False, kept: Tensor | None = None) -> Results:
    """The reductions of the view; in self-similarity those of the rows, for both directions."""
    batch, m, n, _ = view.sizes
    new = view.scale.new_empty
    stripes = plan_stripes(view, kernels, self_similarity, kept is not None)

    def state(reduction: Reduction, wanted: bool, slots: int, size: int) -> State:
        # one allocation each: pieces of one would be aligned or not by chance, and compiled for both
        dtype = reduction.result_dtype(view.scale.dtype)
        return tuple(new((slots, batch, size), dtype=dtype) for _ in range(reduction.num_states if wanted else 0))

    reductions = view.problem.reductions
    slots = stripes.num_col_stripes + self_similarity
    row_states = tuple(state(r, r.rows or self_similarity, slots, m) for r in reductions)
    col_states = row_states
    if not self_similarity:
        col_states = tuple(state(r, r.columns, stripes.num_row_stripes, n) for r in reductions)

    def merged(states: tuple[State, ...], size: int) -> list[Tensor | None]:
        """Of each reduction: its numbers along one axis."""
        results = [new((batch, size), dtype=state[0].dtype) if state else None for state in states]
        if any(states):
            kernels.merge(view, states, results)
        return results

    with _device_of(view.scale):
        kernels.reduce(view, stripes, row_states, col_states, kept, self_similarity)
        rows = merged(row_states, m)
        columns = [None] * len(rows) if self_similarity else merged(col_states, n)
    return tuple(map(Reduced, rows, columns))


def _kept(problem: Problem, state: Tensor) -> Tensor | None:
    """`[B, M, N]`: the products, if the state holds them."""
    batch, m, n, _ = problem.sizes
    return state.view(problem.scale.dtype).view(batch, m, n) if state.numel() else None


def _device_of(tensor: Tensor) -> Any:
    return torch.cuda.device_of(tensor)  # no CUDA call for a CPU tensor


def _unit(problem: Problem, upstream: Results) -> Tensor | None:
    """Factor of weights before they are rounded to float16, whose range ends at 6e-8: brings the largest upstream
    gradient (times what reduction and score make of it) to FP16_HEADROOM. The gradients are divided by it in float32.
    None for the other dtypes, which need no care."""
    if problem.dtype != torch.float16:
        return None
    given = [
        reduction.scaled(x).abs().max()
        for reduction, each in zip(problem.reductions, upstream, strict=True)
        for x in each
        if x is not None
    ]
    if not given:
        return None
    unit = FP16_HEADROOM / torch.stack(given).max().clamp(min=1e-30)
    if len(given) > 4:  # the headroom is that of four terms
        unit = unit / 2
    largest_weight = problem.score.largest_weight()
    return unit if largest_weight is None else unit / largest_weight


def _zero_gradients(problem: Problem, wanted: Wanted) -> Gradients:
    batch, m, n, _ = problem.sizes
    new = problem.scale.new_zeros
    return Gradients(
        torch.zeros_like(problem.rows.vectors, dtype=wanted.dtype) if wanted.queries else None,
        torch.zeros_like(problem.cols.vectors, dtype=wanted.dtype) if wanted.keys else None,
        new(()) if wanted.scale else None,
        new((batch, m)) if wanted.row_bias else None,
        new((batch, n)) if wanted.col_bias else None,
        new((batch, m)) if wanted.row_term else None,
        new((batch, n)) if wanted.col_term else None,
    )

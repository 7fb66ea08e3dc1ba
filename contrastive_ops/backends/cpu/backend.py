"""The native backend: what it allocates, and what a call of the kernels is given."""

from __future__ import annotations

import torch
from torch import Tensor

from contrastive_ops.backends.base import Wanted, missing_reductions
from contrastive_ops.backends.cpu import native
from contrastive_ops.backends.cpu.call import Call
from contrastive_ops.backends.cpu.memory import Layout, new_state, plan_of, state_layout
from contrastive_ops.backends.cpu.tiling import Shape
from contrastive_ops.problem import Gradients, Problem, Results
from contrastive_ops.reductions import Reduced, Reduction, ReductionKind


class CpuBackend:
    name = "cpu"
    reductions = (
        ReductionKind.LOG_SUM_EXP,
        ReductionKind.SCORE_SUM,
        ReductionKind.LARGEST,
        ReductionKind.COUNT_ABOVE,
    )
    summary = "native C++ (AVX-512, AVX2 or portable); O((M+N)*D) memory + budget"

    def missing(self) -> str | None:
        return native.missing()

    def reasons(self, problem: Problem) -> list[str]:
        missing = self.missing()
        reasons = [] if missing is None else [missing]
        if problem.scale.device.type != "cpu":
            reasons.append(f"tensors must be on the CPU, got {problem.scale.device}")
        return reasons + missing_reductions(problem, self.reductions)

    def state_bytes(self, problem: Problem) -> int:
        return state_layout(Shape.of(problem)).total

    def forward(self, problem: Problem) -> tuple[Results, Tensor | None]:
        shape = Shape.of(problem)
        plan = plan_of(shape)
        state = new_state(plan.state.total) if shape.has_slope else None
        if problem.is_empty:
            return problem.neutral_results(), state
        batch, m, n, _ = problem.sizes

        def new_line(reduction: Reduction, length: int, wanted: bool) -> Tensor | None:
            dtype = reduction.result_dtype(shape.statistics_dtype)
            return problem.scale.new_empty((batch, length), dtype=dtype) if wanted else None

        results = tuple(
            [
                Reduced(new_line(reduction, m, rows), new_line(reduction, n, columns))
                for reduction, (rows, columns) in zip(problem.reductions, shape.directions, strict=True)
            ]
        )
        Call(problem, plan, state, plan.forward).forward(results)
        if problem.self_similarity:
            results = tuple([_both_directions(*each) for each in zip(results, problem.reductions, strict=True)])
        return results, state

    def backward(
        self, problem: Problem, results: Results, upstream: Results, state: Tensor, wanted: Wanted
    ) -> Gradients:
        batch, m, n, d = problem.sizes
        if problem.self_similarity:
            results, upstream = _merge_directions(results, upstream)
        queries, keys = problem.rows.vectors, problem.cols.vectors
        dqueries = queries.new_empty(queries.shape, dtype=wanted.dtype) if wanted.queries else None
        dkeys = keys.new_empty(keys.shape, dtype=wanted.dtype) if wanted.keys else None
        from_products = wanted.scale and problem.score.is_linear_in_products

        def new_line(want: bool, length: int) -> Tensor | None:
            return problem.scale.new_empty((batch, length), dtype=torch.float64) if want else None

        drow_bias, dcol_bias = new_line(wanted.row_bias, m), new_line(wanted.col_bias, n)
        drow_term = new_line(wanted.row_term, m)
        dcol_term = new_line(wanted.col_term or (wanted.scale and not from_products), n)
        dscale = problem.scale.new_empty(()) if wanted.scale else None
        gradients = (dqueries, dkeys, dscale, drow_bias, dcol_bias, drow_term, dcol_term)
        if problem.is_empty:
            for gradient in gradients:
                if gradient is not None:
                    gradient.zero_()
        else:
            plan, scratch = plan_of(Shape.of(problem)), Layout()
            accumulators: dict[str, Tensor | None] = {}
            # dscale = <Q, dS K> needs one of the two products also where no gradient of the embeddings is wanted
            needs_dq = wanted.queries or (from_products and not wanted.keys)
            for name, gradient, needed, elements in (
                ("dq_accumulator", dqueries, needs_dq, batch * m * d),
                ("dk_accumulator", dkeys, wanted.keys, batch * len(problem.pairs) * n * d),
            ):
                if gradient is not None and gradient.dtype == problem.statistics_dtype:
                    accumulators[name] = gradient
                elif needed:
                    scratch.add(name, elements * problem.statistics_dtype.itemsize)
            if from_products:
                scratch.add("dscale_partial", 8 * batch * (plan.tiling.row_tiles + plan.tiling.col_tiles))
            call = Call(problem, plan, state, scratch)
            call.set(dqueries=dqueries, dkeys=dkeys, drow_bias=drow_bias, dcol_bias=dcol_bias, dscale=dscale)
            call.set(drow_term=drow_term, dcol_term=dcol_term, **accumulators)
            call.backward(results, upstream)
        if not wanted.col_term:
            dcol_term = None
        lines = (None if x is None else x.to(problem.scale.dtype) for x in (drow_bias, dcol_bias, drow_term, dcol_term))
        return Gradients(dqueries, dkeys, dscale, *lines)


def _both_directions(result: Reduced, reduction: Reduction) -> Reduced:
    """Self-similarity: one direction is the other; what an operator returns must not share memory."""
    rows = result.rows
    if not reduction.columns or rows is None:
        return result
    return Reduced(rows, rows.clone()) if reduction.rows else Reduced(None, rows)


def _merge_directions(results: Results, upstream: Results) -> tuple[Results, Results]:
    """Self-similarity: row and column results are one, so their upstream gradients add up."""

    def add(first: Tensor | None, second: Tensor | None) -> Tensor | None:
        return second if first is None else first if second is None else first + second

    return (
        tuple(Reduced(x.rows if x.rows is not None else x.columns, None) for x in results),
        tuple(Reduced(add(*x), None) for x in upstream),
    )

"""The two passes of the kernels: what they allocate, and the calls that fill it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from contrastive_ops.backends.base import Wanted
from contrastive_ops.backends.cpu.call import WHOLE, Call, Panel
from contrastive_ops.backends.cpu.memory import Layout, plan_of
from contrastive_ops.backends.cpu.tiling import Shape
from contrastive_ops.problem import Gradients, Problem, Results
from contrastive_ops.reductions import Reduced, Reduction


class Outputs(NamedTuple):
    """What a gradient pass fills. Sums of lines are float64: long sums of terms of one sign."""

    dqueries: Tensor | None
    dkeys: Tensor | None
    dscale: Tensor | None
    drow_bias: Tensor | None
    dcol_bias: Tensor | None
    drow_term: Tensor | None
    dcol_term: Tensor | None  # also for dscale, where that is not <Q, dS K>

    @classmethod
    def new(cls, problem: Problem, wanted: Wanted) -> Outputs:
        batch, m, n, _ = problem.sizes
        queries, keys = problem.rows.vectors, problem.cols.vectors

        def new_line(want: bool, length: int) -> Tensor | None:
            return problem.scale.new_empty((batch, length), dtype=torch.float64) if want else None

        return cls(
            queries.new_empty(queries.shape, dtype=wanted.dtype) if wanted.queries else None,
            keys.new_empty(keys.shape, dtype=wanted.dtype) if wanted.keys else None,
            problem.scale.new_empty(()) if wanted.scale else None,
            new_line(wanted.row_bias, m),
            new_line(wanted.col_bias, n),
            new_line(wanted.row_term, m),
            new_line(wanted.col_term or (wanted.scale and not problem.score.is_linear_in_products), n),
        )

    def clear(self) -> None:
        for gradient in self:
            if gradient is not None:
                gradient.zero_()

    def gradients(self, wanted: Wanted, dtype: torch.dtype) -> Gradients:
        """Those that are wanted; lines in `dtype`."""
        lines = [None if line is None else line.to(dtype) for line in self[3:]]
        if not wanted.col_term:
            lines[-1] = None
        return Gradients(self.dqueries, self.dkeys, self.dscale, *lines)


def score_pass(problem: Problem, shape: Shape, state: Tensor | None, panel: Panel = WHOLE) -> Results:
    """Every direction that the kernels reduce: in self-similarity rows alone."""
    batch, m, n, _ = problem.sizes

    def new_line(reduction: Reduction, length: int, wanted: bool) -> Tensor | None:
        dtype = reduction.result_dtype(problem.scale.dtype)
        return problem.scale.new_empty((batch, length), dtype=dtype) if wanted else None

    results = tuple(
        [
            Reduced(new_line(reduction, m, rows), new_line(reduction, n, columns))
            for reduction, (rows, columns) in zip(problem.reductions, shape.directions, strict=True)
        ]
    )
    plan = plan_of(shape)
    Call(problem, plan, state, plan.forward, panel).forward(results)
    return results


def gradient_pass(
    problem: Problem,
    shape: Shape,
    results: Results,
    upstream: Results,
    state: Tensor,
    outputs: Outputs,
    panel: Panel = WHOLE,
) -> None:
    """Fill the outputs, which are there where they are wanted."""
    batch, m, n, d = problem.sizes
    item, plan = problem.statistics_dtype.itemsize, plan_of(shape)
    others = max(plan.tiling.stripes - 1, 0)
    from_products = outputs.dscale is not None and problem.score.is_linear_in_products
    # dscale = <Q, dS K> needs one of the two products also where no gradient of the embeddings is wanted, and packed
    # operands: with stripes, those of the rows alone
    needs_dq = outputs.dqueries is not None or (from_products and (plan.tiling.stripes > 0 or outputs.dkeys is None))
    scratch, accumulators = Layout(), dict[str, Tensor]()
    for name, gradient, needed, elements in (
        ("dq_accumulator", outputs.dqueries, needs_dq, batch * m * d),
        ("dk_accumulator", outputs.dkeys, outputs.dkeys is not None, batch * len(problem.pairs) * n * d),
    ):
        if gradient is not None and gradient.dtype == problem.statistics_dtype:
            accumulators[name] = gradient
        elif needed:
            scratch.add(name, elements * item)
    for name, needed, size in (
        ("dq_stripes", needs_dq, batch * m * d * item),
        ("drow_bias_stripes", outputs.drow_bias is not None, 8 * batch * m),
        ("drow_term_stripes", outputs.drow_term is not None, 8 * batch * m),
    ):
        if needed and others:
            scratch.add(name, others * size)
    if from_products:
        scratch.add("dscale_partial", 8 * batch * (plan.tiling.row_tiles + plan.tiling.col_tiles))
    call = Call(problem, plan, state, scratch, panel)
    call.set(**outputs._asdict(), **accumulators)
    call.backward(results, upstream)

"""Sum over rows of the positive's cross-entropy, with the gradient formed in the forward pass: three products."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastive_ops.backends import Backend, Wanted, check_backend_name, select_backend
from contrastive_ops.ops.once import differentiable_once
from contrastive_ops.ops.rule import Rule
from contrastive_ops.ops.schema import (
    NUM_INPUTS,
    PROBLEM_SCHEMA,
    differentiable_inputs,
    flatten,
    unflatten,
)
from contrastive_ops.ops.transforms import require_grad
from contrastive_ops.problem import (
    DEFAULT_WORKSPACE_BYTES,
    Gradients,
    Problem,
    Statistics,
    build_problem,
    without_autocast,
)
from contrastive_ops.relations import Relation

PANEL_ROWS = 384  # panels are multiples of this, so that tiles are whole

torch.library.define(
    "contrastive_ops::row_cross_entropy",
    f"({PROBLEM_SCHEMA}, bool[] wanted) -> "
    "(Tensor total, Tensor dqueries, Tensor dkeys, Tensor dscale, Tensor drow_bias, Tensor dcol_bias, "
    "Tensor drow_term, Tensor dcol_term)",
)


def cross_entropy_of_positive(lse_negatives: Tensor, positive: Tensor) -> Tensor:
    """-log softmax of the positive among itself and its negatives, as softplus(lse_negatives - positive).

    The positive stays out of its own log-sum-exp, so its gradient is -sigmoid(lse_negatives - positive), never the
    difference p - 1 that loses confident pairs. No negatives (lse = -inf) give 0.
    """
    # above the threshold softplus is linear, and exp(-50) is below the last bit of 50 also in float64
    return F.softplus(lse_negatives - positive, threshold=50.0)


def summed_row_cross_entropy(
    queries: Tensor,
    keys: Tensor,
    *,
    scale: float | Tensor = 1.0,
    row_bias: Tensor | None = None,
    col_bias: Tensor | None = None,
    candidates: Relation,
    positives: Relation,
    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES,
    backend: str | None = None,
) -> Tensor:
    """sum_i softplus(row_lse_i - row_sum_i) over all rows (and batches), with row statistics as in
    `similarity_statistics`.

    One direction lets a panel of rows finish at once: its scores stay in the workspace, its lse is known, and since
    the upstream gradient is one number for all rows, dQ and dK follow in the forward pass without computing a score
    twice: three products instead of four, at any size. Gradients are held from forward to backward, in the
    statistics dtype.

    Args: as `similarity_statistics`; `positives` holds at most one pair of each row, which `candidates` leave out.

    Returns:
        0-dim, float32 (float64 for float64 inputs).
    """
    check_backend_name(backend)
    problem = build_problem(
        queries,
        keys.view_as(keys) if keys is queries else keys,  # one direction has no self-similarity to use
        scale=scale,
        row_bias=row_bias,
        col_bias=col_bias,
        candidates=candidates,
        positives=positives,
        rows=True,
        columns=False,
        workspace_bytes=workspace_bytes,
    )
    inputs = differentiable_inputs(problem)
    wanted = require_grad(inputs) if torch.is_grad_enabled() else [False] * len(inputs)
    total: Tensor
    (total,) = _SummedRowCrossEntropy.apply(flatten(problem, backend, keep_scores=any(wanted)), wanted, *inputs)
    return total


class _SummedRowCrossEntropy(Rule):
    @staticmethod
    def run(settings, wanted, *inputs):  # type: ignore[no-untyped-def]
        total, *gradients = torch.ops.contrastive_ops.row_cross_entropy(*inputs, *settings, wanted)
        return (total,), tuple(gradients)

    @staticmethod
    def keep(ctx: Any, args, outputs, gradients):  # type: ignore[no-untyped-def]
        _, wanted, *inputs = args
        # the inputs are saved for their graph alone: a second differentiation must find it and be refused
        ctx.save_for_backward(*gradients, *inputs)
        ctx.wanted = wanted

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, saved, d_total):  # type: ignore[no-untyped-def]
        gradients, inputs = saved[:NUM_INPUTS], saved[NUM_INPUTS:]
        return (
            None,
            None,
            *(
                (gradient * d_total).to(value.dtype) if want else None
                for gradient, value, want in zip(gradients, inputs, ctx.wanted, strict=True)
            ),
        )


@torch.library.impl("contrastive_ops::row_cross_entropy", "CompositeExplicitAutograd")
def _row_cross_entropy(*args):  # type: ignore[no-untyped-def]
    problem, name, (wanted_list,) = unflatten(args)
    # gradients wait for their upstream factor in the statistics dtype: a loss scale would come too late for float16
    backend, wanted = select_backend(problem, name), Wanted(*wanted_list)._replace(dtype=problem.statistics_dtype)
    total = problem.scale.new_zeros(())
    gradients: Gradients | None = None
    for rows, panel in _panels(problem, backend):
        with without_autocast(problem.queries):
            part, part_gradients = _panel_cross_entropy(panel, backend, wanted)
        total += part
        gradients = _accumulate(gradients, part_gradients, rows, problem)
    absent = problem.scale.new_empty
    found = gradients or Gradients()
    given = args[:NUM_INPUTS]
    return total, *(
        absent((0,)) if value is None else value.view(like.shape) for value, like in zip(found, given, strict=True)
    )


@torch.library.register_fake("contrastive_ops::row_cross_entropy")
def _row_cross_entropy_fake(*args):  # type: ignore[no-untyped-def]
    problem, _, (wanted,) = unflatten(args)
    new = problem.scale.new_empty
    return new(()), *(
        new(value.shape) if want and value is not None else new((0,))
        for value, want in zip(args[:NUM_INPUTS], wanted, strict=True)
    )


def _panels(problem: Problem, backend: Backend) -> Iterator[tuple[slice, Problem]]:
    """Row panels whose scores fit the workspace; one panel where the budget does not hold a useful one, or where the
    backend computes scores again because that costs it less."""
    _, m, n, _ = problem.sizes
    row_bytes = max(1, problem.sizes[0] * n * problem.statistics_dtype.itemsize)
    height = problem.workspace_bytes // row_bytes // PANEL_ROWS * PANEL_ROWS
    if height == 0 or backend.state_bytes(_panel(problem, slice(0, min(height, m)))) == 0:
        height = max(m, 1)
    for start in range(0, max(m, 1), height):
        rows = slice(start, min(start + height, m))
        yield rows, _panel(problem, rows)


def _panel(problem: Problem, rows: slice) -> Problem:
    return problem._replace(
        queries=problem.queries[:, rows],
        row_bias=None if problem.row_bias is None else problem.row_bias[:, rows],
        candidates=problem.candidates.for_rows(rows),
        positives=None if problem.positives is None else problem.positives.for_rows(rows),
    )


def _panel_cross_entropy(panel: Problem, backend: Backend, wanted: Wanted) -> tuple[Tensor, Gradients]:
    statistics, state = backend.forward(panel)
    row_lse, row_sum = statistics.row_lse, statistics.row_sum
    assert row_lse is not None and row_sum is not None
    total = cross_entropy_of_positive(row_lse, row_sum).sum()
    if not any(wanted[:NUM_INPUTS]):
        return total, Gradients()
    # d softplus(lse - s) = sigmoid(lse - s) (dlse - ds)
    weight = torch.sigmoid(row_lse - row_sum)
    upstream = Statistics(weight, -weight, None, None)
    kept = row_lse.new_empty((0,), dtype=torch.uint8) if state is None else state
    return total, backend.backward(panel, statistics, upstream, kept, wanted)


def _accumulate(total: Gradients | None, part: Gradients, rows: slice, problem: Problem) -> Gradients:
    """Row gradients are put in their place, the others add up in the statistics dtype."""
    if rows == slice(0, problem.queries.shape[1]):
        return part
    if total is None:
        # the gradients that are wanted, in full size
        total = Gradients(
            *(
                None if value is None or like is None else torch.zeros_like(like, dtype=problem.statistics_dtype)
                for value, like in zip(part, differentiable_inputs(problem), strict=True)
            )
        )
    for name, part_value in part._asdict().items():
        value = getattr(total, name)
        if value is not None:
            target = value[:, rows] if name in ("queries", "row_bias") else value
            target += part_value
    return total

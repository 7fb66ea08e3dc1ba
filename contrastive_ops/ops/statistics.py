"""The primitive: differentiable row and column statistics of a score matrix that is never stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from contrastive_ops.backends import Wanted, check_backend_name, select_backend
from contrastive_ops.ops.once import differentiable_once
from contrastive_ops.ops.rule import Rule
from contrastive_ops.ops.schema import (
    NUM_INPUTS,
    PROBLEM_SCHEMA,
    Settings,
    differentiable_inputs,
    flatten,
    unflatten,
)
from contrastive_ops.ops.transforms import requires_grad
from contrastive_ops.problem import (
    DEFAULT_WORKSPACE_BYTES,
    Problem,
    Statistics,
    build_problem,
    without_autocast,
)
from contrastive_ops.relations import Relation

torch.library.define(
    "contrastive_ops::similarity_statistics",
    f"({PROBLEM_SCHEMA}) -> (Tensor row_lse, Tensor row_sum, Tensor col_lse, Tensor col_sum, Tensor state)",
)
torch.library.define(
    "contrastive_ops::similarity_statistics_backward",
    f"({PROBLEM_SCHEMA}, Tensor row_lse, Tensor row_sum, Tensor col_lse, Tensor col_sum, Tensor state, "
    "Tensor? d_row_lse, Tensor? d_row_sum, Tensor? d_col_lse, Tensor? d_col_sum, bool[] wanted) "
    "-> (Tensor dqueries, Tensor dkeys, Tensor dscale, Tensor drow_bias, Tensor dcol_bias, Tensor drow_term, "
    "Tensor dcol_term)",
)


def similarity_statistics(
    queries: Tensor,
    keys: Tensor,
    *,
    scale: float | Tensor = 1.0,
    row_bias: Tensor | None = None,
    col_bias: Tensor | None = None,
    candidates: Relation | None = None,
    positives: Relation | None = None,
    rows: bool = True,
    columns: bool = False,
    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES,
    backend: str | None = None,
) -> Statistics:
    """Log-sum-exp over candidates and sum over positives, per row and per column of the scores.

        s_ij      = scale * <q_i, k_j> + row_bias_i + col_bias_j
        row_lse_i = log sum_{j: (i,j) in candidates} exp(s_ij)      row_sum_i = sum_{j: (i,j) in positives} s_ij
        col_lse_j = log sum_{i: (i,j) in candidates} exp(s_ij)      col_sum_j = sum_{i: (i,j) in positives} s_ij

    The M x N scores are walked in tiles and never stored (but for `workspace_bytes`). All four statistics are
    differentiable once, in every floating input; a second backward raises.

    Args:
        queries: `[M, D]` or `[B, M, D]`; float32, float64, bfloat16 or float16, any strides.
        keys: `[N, D]` or `[B, N, D]`, same dtype and device. Passing the *same tensor* as `queries` with
            symmetric relations visits only half of the pairs.
        scale: multiplies the products (the inverse of a temperature); float or one-element tensor.
        row_bias: `[M]` or `[B, M]`, added to the scores of a row.
        col_bias: `[N]` or `[B, N]`, added to the scores of a column, `log w_j` for weighted candidates.
        candidates: pairs inside the log-sum-exp; None means all pairs.
        positives: pairs whose scores are summed; None means no sums.
        rows, columns: which directions to compute, both from one pass.
        workspace_bytes: upper bound for scores kept from forward for backward; more is faster, 0 recomputes all.
        backend: None for the first that can, or a name: `"cpu"`, `"triton"`, `"cuda"`, `"eager"`, `"reference"`.

    Returns:
        `Statistics(row_lse, row_sum, col_lse, col_sum)`, `[M]`/`[N]` or `[B, M]`/`[B, N]`, float32 (float64 for
        float64 inputs); fields that were not asked for are None. A line without candidates has lse = -inf and
        gradient 0; a line without positives has sum 0.

    Raises:
        ValueError, TypeError: naming got and expected, before any work is done.
    """
    check_backend_name(backend)
    problem = build_problem(
        queries,
        keys,
        scale=scale,
        row_bias=row_bias,
        col_bias=col_bias,
        candidates=candidates,
        positives=positives,
        rows=rows,
        columns=columns,
        workspace_bytes=workspace_bytes,
    )
    return problem_statistics(problem, backend)


def problem_statistics(problem: Problem, backend: str | None) -> Statistics:
    """The statistics of a problem as `build_problem` makes it, differentiable once."""
    inputs = differentiable_inputs(problem)
    needs_grad = torch.is_grad_enabled() and requires_grad(*inputs)
    settings = flatten(problem, backend, keep_scores=needs_grad)
    if problem.self_similarity:  # queries and keys are one input of the graph, and so are the biases
        queries, _, scale, row_bias, _, *terms = inputs
        inputs = (queries, None, scale, row_bias, None, *terms)
    row_lse, row_sum, col_lse, col_sum = _SimilarityStatistics.apply(settings, *inputs)
    rows, columns, has_sums = problem.rows, problem.columns, problem.positives is not None
    return Statistics(
        row_lse if rows else None,
        row_sum if rows and has_sums else None,
        col_lse if columns else None,
        col_sum if columns and has_sums else None,
    )


class _SimilarityStatistics(Rule):
    num_outputs = 4

    @staticmethod
    def run(settings, *inputs):  # type: ignore[no-untyped-def]
        *statistics, state = torch.ops.contrastive_ops.similarity_statistics(*_both_sides(settings, inputs), *settings)
        return tuple(statistics), (state,)

    @staticmethod
    def keep(ctx: Any, args, statistics, kept):  # type: ignore[no-untyped-def]
        ctx.settings = settings = args[0]
        ctx.save_for_backward(*args[1:], *statistics, *kept, settings.mixing, *settings.clause_ids)
        ctx.set_materialize_grads(False)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, saved, d_row_lse, d_row_sum, d_col_lse, d_col_sum):  # type: ignore[no-untyped-def]
        inputs, saved = saved[:NUM_INPUTS], saved[NUM_INPUTS:]
        statistics, (state, mixing, *ids) = saved[:4], saved[4:]
        settings = ctx.settings.with_tensors(mixing, list(ids))
        wanted = list(ctx.needs_input_grad[1:])  # in self-similarity, queries collect both roles
        grads = torch.ops.contrastive_ops.similarity_statistics_backward(
            *_both_sides(settings, inputs),
            *settings,
            *statistics,
            state,
            d_row_lse,
            d_row_sum,
            d_col_lse,
            d_col_sum,
            wanted,
        )
        return None, *(grad if want else None for grad, want in zip(grads, wanted, strict=True))


def _both_sides(settings: Settings, inputs: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
    """The inputs of the operator, which sees one tensor in both places in self-similarity."""
    queries, keys, scale, row_bias, col_bias, row_term, col_term = inputs
    if settings.self_similarity:
        keys, col_bias = queries, row_bias
    return queries, keys, scale, row_bias, col_bias, row_term, col_term


@torch.library.impl("contrastive_ops::similarity_statistics", "CompositeExplicitAutograd")
def _forward_impl(*args):  # type: ignore[no-untyped-def]
    problem, name, _ = unflatten(args)
    with without_autocast(problem.queries):
        statistics, state = select_backend(problem, name).forward(problem)
    absent = problem.scale.new_empty
    return (
        *(absent((0,)) if value is None else _as_given(value, args[0]) for value in statistics),
        absent((0,), dtype=torch.uint8) if state is None else state,
    )


@torch.library.register_fake("contrastive_ops::similarity_statistics")
def _forward_fake(*args):  # type: ignore[no-untyped-def]
    problem, name, _ = unflatten(args)
    queries, keys = args[:2]
    row_shape, col_shape = queries.shape[:-1], (*queries.shape[:-2], keys.shape[-2])
    has_sums = problem.positives is not None
    new = problem.scale.new_empty
    return (
        new(row_shape if problem.rows else (0,)),
        new(row_shape if problem.rows and has_sums else (0,)),
        new(col_shape if problem.columns else (0,)),
        new(col_shape if problem.columns and has_sums else (0,)),
        new((select_backend(problem, name).state_bytes(problem),), dtype=torch.uint8),
    )


def _as_given(value: Tensor, queries: Tensor) -> Tensor:
    """Without the batch dimension that the operator added, if it did."""
    return value if queries.dim() == 3 else value.squeeze(0)


def _present_statistics(problem: Problem, values: Sequence[Tensor | None], queries: Tensor) -> Statistics:
    """The statistics that the problem has, with a batch dimension."""
    has_sums = problem.positives is not None
    present = (problem.rows, problem.rows and has_sums, problem.columns, problem.columns and has_sums)
    batched = queries.dim() == 3
    return Statistics(
        *(
            None if value is None or not here else value if batched else value.unsqueeze(0)
            for value, here in zip(values, present, strict=True)
        )
    )


@torch.library.impl("contrastive_ops::similarity_statistics_backward", "CompositeExplicitAutograd")
def _backward_impl(*args):  # type: ignore[no-untyped-def]
    problem, name, rest = unflatten(args)
    statistics = _present_statistics(problem, rest[0:4], args[0])
    upstream = _present_statistics(problem, rest[5:9], args[0])
    with without_autocast(problem.queries):
        gradients = select_backend(problem, name).backward(problem, statistics, upstream, rest[4], Wanted(*rest[9]))
    absent = problem.scale.new_empty
    return tuple(
        absent((0,)) if value is None else value if value.dim() == 0 else _as_given(value, args[0])
        for value in gradients
    )


@torch.library.register_fake("contrastive_ops::similarity_statistics_backward")
def _backward_fake(*args):  # type: ignore[no-untyped-def]
    problem, _, rest = unflatten(args)
    wanted = rest[9]
    absent = problem.scale.new_empty

    def like(value: Tensor | None, want: bool) -> Tensor:
        return value.new_empty(value.shape) if want and value is not None else absent((0,))

    return tuple(like(value, want) for value, want in zip(args[:NUM_INPUTS], wanted, strict=True))

"""Log-sum-exp over candidates and sum over positives: what most losses are made of."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from contrastive_ops.backends import check_backend_name
from contrastive_ops.build_problem import build_problem
from contrastive_ops.ops.reduce import reduced
from contrastive_ops.problem import DEFAULT_WORKSPACE_BYTES, Problem, Results
from contrastive_ops.reductions import LogSumExp, Reduced, Reduction, ScoreSum
from contrastive_ops.relations import Relation, all_pairs


class Statistics(NamedTuple):
    """Row and column reductions of the scores; a field that was not asked for is None.

    row_lse `[M]`: log-sum-exp over the candidates of row i (-inf for a row without candidates).
    row_sum `[M]`: sum of the scores over the positives of row i (0 for a row without positives).
    col_lse `[N]`, col_sum `[N]`: the same down the columns. With a batch dimension: `[B, M]`, `[B, N]`.
    """

    row_lse: Tensor | None
    row_sum: Tensor | None
    col_lse: Tensor | None
    col_sum: Tensor | None


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
        statistics_reductions(candidates, positives, rows, columns),
        scale=scale,
        row_bias=row_bias,
        col_bias=col_bias,
        workspace_bytes=workspace_bytes,
    )
    return problem_statistics(problem, backend)


def statistics_reductions(
    candidates: Relation | None, positives: Relation | None, rows: bool = True, columns: bool = False
) -> dict[str, Reduction]:
    """The reductions that `Statistics` are, under the names of the arguments that say their pairs."""
    candidates = all_pairs() if candidates is None else candidates
    reductions: dict[str, Reduction] = {"candidates": LogSumExp(candidates, rows, columns)}
    if positives is not None:
        reductions["positives"] = ScoreSum(positives, rows, columns)
    return reductions


def problem_statistics(problem: Problem, backend: str | None) -> Statistics:
    """Those of a problem with `statistics_reductions`, differentiable once."""
    return as_statistics(reduced(problem, backend))


def as_statistics(results: Results) -> Statistics:
    """Of a problem with `statistics_reductions`."""
    lse, *sums = results
    total = sums[0] if sums else Reduced(None, None)
    return Statistics(lse.rows, total.rows, lse.columns, total.columns)

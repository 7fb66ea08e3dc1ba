"""Row and column statistics of volumes (GRAM: Cicchetti et al. 2025, arXiv 2412.11959)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from contrastive_ops.backends import check_backend_name
from contrastive_ops.build_problem import build_problem
from contrastive_ops.check import check_modalities
from contrastive_ops.ops.statistics import Statistics, problem_statistics, statistics_reductions
from contrastive_ops.ops.tuple_spans import tuple_spans
from contrastive_ops.problem import DEFAULT_WORKSPACE_BYTES, Problem, Side, statistics_dtype
from contrastive_ops.relations import Relation
from contrastive_ops.scores import VolumeScore


def volume_statistics(
    anchor: Tensor,
    modalities: Sequence[Tensor],
    *,
    scale: float | Tensor = -1.0,
    row_bias: Tensor | None = None,
    col_bias: Tensor | None = None,
    candidates: Relation | None = None,
    positives: Relation | None = None,
    rows: bool = True,
    columns: bool = False,
    absolute: bool = False,
    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES,
    backend: str | None = None,
) -> Statistics:
    """`similarity_statistics` of another score: the volume of anchor i and the vectors of column j.

        V_ij = sqrt(det Gram(a_i, x^1_j, ..., x^K_j)) = beta_j * rho_ij
        s_ij = scale * V_ij + row_bias_i + col_bias_j

    beta_j is the volume of the data vectors among themselves, rho_ij the distance of the anchor from their span. A
    small volume means that the vectors agree, so `scale` is usually negative: -1 / temperature. A score is made of K
    products, and nothing of size M x N is stored (but for `workspace_bytes`).

    Args:
        anchor: `[M, D]` or `[B, M, D]`; float32, float64, bfloat16 or float16, any strides, normalised or not.
        modalities: a sequence of 1 to 7 tensors `[N, D]` or `[B, N, D]`, same dtype and device: x^1 .. x^K. Their order
            does not matter.
        scale, row_bias, col_bias, candidates, positives, rows, columns, workspace_bytes, backend: as in
            `similarity_statistics`.
        absolute: rounding can leave rho^2 below 0 where an anchor lies in the span. False takes it for 0, True takes
            its absolute value, as GRAM's own code does with the determinant.

    Returns:
        `Statistics(row_lse, row_sum, col_lse, col_sum)`, as `similarity_statistics`; differentiable once, in anchor,
        modalities, scale and biases. A volume of 0 has no derivative: 0 is taken, for the anchor and the basis where
        rho = 0, for the data where beta = 0. Spans are computed in float64, products in the statistics dtype: vectors
        of a tuple may be nearly dependent without loss, while a rho below 1e-3 |a_i| is uncertain by about 3e-4 |a_i|
        in float32. For matching tuples, where training makes it small, `gram_volume` has no such limit.

    Raises:
        ValueError, TypeError: naming got and expected, before any work is done.
    """
    check_backend_name(backend)
    problem, _ = volume_problem(
        anchor,
        modalities,
        scale=scale,
        row_bias=row_bias,
        col_bias=col_bias,
        candidates=candidates,
        positives=positives,
        rows=rows,
        columns=columns,
        absolute=absolute,
        workspace_bytes=workspace_bytes,
    )
    return problem_statistics(problem, backend)


def volume_problem(
    anchor: Tensor,
    modalities: Sequence[Tensor],
    *,
    scale: float | Tensor,
    row_bias: Tensor | None = None,
    col_bias: Tensor | None = None,
    candidates: Relation | None = None,
    positives: Relation | None = None,
    rows: bool,
    columns: bool,
    absolute: bool = False,
    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES,
    paired: bool = False,
) -> tuple[Problem, Tensor]:
    """The problem, with everything that does not depend on a pair computed: a graph from its terms to the inputs; and
    the volumes of matching tuples, as of `gram_volume`, where row i is `paired` with column i (else an empty tensor).
    """
    if not isinstance(absolute, bool):
        raise TypeError(f"absolute must be a bool, got {type(absolute).__name__}")
    anchor, modalities = check_modalities(anchor, modalities, paired=paired)
    dtype = statistics_dtype(anchor.dtype)
    # what is left to check looks at sizes alone, so it comes before the work
    problem = build_problem(
        anchor,
        modalities[0],
        statistics_reductions(candidates, positives, rows, columns),
        scale=scale,
        row_bias=row_bias,
        col_bias=col_bias,
        workspace_bytes=workspace_bytes,
    )
    spans = tuple_spans((*modalities, anchor) if paired else modalities, data=len(modalities))
    row_term = spans.last_square if paired else anchor.to(dtype).square().sum(-1)
    # by hand: a graph cannot hold `_replace` before torch 2.11
    volumes = Problem(
        rows=Side(anchor, problem.rows.bias),
        cols=Side(spans.banks, problem.cols.bias),
        scale=problem.scale,
        score=VolumeScore(row_term, spans.col_term, spans.mixing, absolute),
        reductions=problem.reductions,
        workspace_bytes=problem.workspace_bytes,
    )
    return volumes, spans.volume

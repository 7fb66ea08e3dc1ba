"""A backend's solution of a case beside its truth: values and every gradient, against float64."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from contrastive_ops import Statistics, similarity_statistics
from contrastive_ops.problem import DEFAULT_WORKSPACE_BYTES, statistics_dtype
from contrastive_ops.testing.cases import Case, make_inputs
from contrastive_ops.testing.dense import Dense, dense_results, differentiate
from contrastive_ops.testing.errors import norm_error, worst_row_error
from contrastive_ops.testing.tolerances import tolerance_for


def solve(
    case: Case,
    dtype: torch.dtype,
    backend: str,
    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES,
    statistics_of: Callable[..., Statistics] = similarity_statistics,
) -> dict[str, Tensor]:
    """Statistics and gradients by name."""
    inputs = make_inputs(case, dtype)
    statistics = statistics_of(
        inputs.queries,
        inputs.keys,
        scale=inputs.scale,
        row_bias=inputs.row_bias,
        col_bias=inputs.col_bias,
        candidates=inputs.candidates.relation,
        positives=None if inputs.positives is None else inputs.positives.relation,
        rows=case.rows,
        columns=case.columns,
        workspace_bytes=workspace_bytes,
        backend=backend,
    )
    values = {name: value for name, value in statistics._asdict().items() if value is not None}
    return {**values, **differentiate(values, inputs.leaves())}


class Truth(NamedTuple):
    """The dense formula on the same rounded inputs, in float64 and in the statistics dtype."""

    exact: Dense
    dense: dict[str, Tensor]


@lru_cache(maxsize=16)  # the backends are asked one after another
def truth_of(case: Case, dtype: torch.dtype) -> Truth:
    exact = dense_results(make_inputs(case, dtype), case, torch.float64)
    return Truth(exact, dense_results(make_inputs(case, dtype), case, statistics_dtype(dtype)).results)


class Bound(NamedTuple):
    """An error, and the most that it may be."""

    what: str
    error: float
    allowed: float

    @property
    def holds(self) -> bool:
        return self.error <= self.allowed


def bounds(results: dict[str, Tensor], case: Case, dtype: torch.dtype, backend: str) -> list[Bound]:
    """Error <= error of the dense formula in the statistics dtype, on the same rounded inputs, + the tolerance.

    That is a harder bar than the dense formula in bf16 or fp16, whose own error would hide a hundred bugs.
    """
    (exact, sizes), dense = truth_of(case, dtype)
    assert results.keys() == exact.keys()
    value_tolerance, gradient_tolerance = tolerance_for(dtype, backend)
    found = []
    for name, true in exact.items():
        is_embedding = name in ("d_queries", "d_keys")
        assert results[name].dtype == (dtype if is_embedding else statistics_dtype(dtype)), name
        size = sizes.get(name)
        if is_embedding and size is not None:
            # what lies below the normal range of fp16 is rounded as its smallest normal number
            size = size.clamp(min=torch.finfo(dtype).smallest_normal * case.sizes[2] ** 0.5)
        tolerance = gradient_tolerance if is_embedding else value_tolerance
        error, allowed = norm_error(results[name], true, size), norm_error(dense[name], true, size)
        found.append(Bound(name, error, allowed + tolerance))
        if is_embedding:
            # the worst row, a maximum over two independent roundings, may be twice the dense one
            error, allowed = worst_row_error(results[name], true, size), worst_row_error(dense[name], true, size)
            found.append(Bound(f"{name}, worst row", error, 2 * allowed + 2 * tolerance))
    return found


def check_case(case: Case, dtype: torch.dtype, backend: str) -> None:
    for bound in bounds(solve(case, dtype, backend), case, dtype, backend):
        assert bound.holds, f"{bound.what}: {bound.error} against {bound.allowed}"

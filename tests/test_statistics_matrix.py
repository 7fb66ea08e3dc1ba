"""The one matrix: relation x shape x backend x dtype x layout x options, values and every gradient, against float64.

Relations and shapes form a full grid. The other axes (layout, batch, direction, biases, kind of scale) are cycled over
it with coprime periods instead of multiplied: the product would be 50,000 cases per backend and dtype, and each of
them only changes how a tile is loaded or finished, independently of the relation that it holds. The shapes that cross
several native tiles take half a second per hundred cases in float64, so they meet contiguous and transposed inputs of
every relation and no batch.
"""

import pytest
import torch
from conftest import AVAILABLE_BACKENDS, SLOW_BACKENDS

from contrastive_ops import similarity_statistics
from contrastive_ops.problem import DEFAULT_WORKSPACE_BYTES, statistics_dtype
from contrastive_ops.testing import (
    DTYPES,
    LAYOUTS,
    RELATIONS,
    SELF_RELATIONS,
    SHAPES,
    Case,
    dense_results,
    differentiate,
    make_inputs,
    norm_error,
    tolerance_for,
    worst_row_error,
)

LARGE = 100_000  # pairs
DIRECTIONS = ((True, True), (True, False), (False, True))
BIASES = ((False, False), (True, True), (True, False), (False, True))
BATCHES = (0, 3, 1, 0, 2)


def _options(k: int, large: bool) -> dict[str, object]:
    rows, columns = DIRECTIONS[k % 3]
    row_bias, col_bias = BIASES[k % 4]
    layouts = ["contiguous", "transposed"] if large else list(LAYOUTS)
    return {
        "rows": rows,
        "columns": columns,
        "row_bias": row_bias,
        "col_bias": col_bias,
        "batch": 0 if large else BATCHES[k % 5],
        "layout": layouts[k % 17 % len(layouts)],
        "tensor_scale": k % 11 % 3 != 0,
        "scale": (14.25, 1.0, -3.5)[k % 13 % 3],
    }


def _cases() -> list[Case]:
    cases = []
    for relation in RELATIONS:
        for sizes in SHAPES.values():
            cases.append(Case(relation, sizes, **_options(len(cases), sizes[0] * sizes[1] > LARGE)))
    for relation in SELF_RELATIONS:
        for n, d in ((1, 1), (0, 4), (7, 3), (33, 64), (130, 100), (300, 17), (500, 72)):
            for _ in range(3):
                cases.append(Case(relation, (n, n, d), **_options(len(cases), n * n > LARGE)))
    return cases


CASES = _cases()


def run(
    case: Case, dtype: torch.dtype, backend: str, workspace_bytes: int = DEFAULT_WORKSPACE_BYTES
) -> dict[str, torch.Tensor]:
    inputs = make_inputs(case, dtype)
    statistics = similarity_statistics(
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


def check_case(case: Case, dtype: torch.dtype, backend: str) -> None:
    """Error <= error of the dense formula in the statistics dtype, on the same rounded inputs, + the tolerance.

    That is a harder bar than the dense formula in bf16 or fp16, whose own error would hide a hundred bugs.
    """
    if case.sizes[0] * case.sizes[1] > LARGE:
        torch.set_num_threads(2)
    results = run(case, dtype, backend)
    truth = dense_results(make_inputs(case, dtype), case, torch.float64)
    dense = dense_results(make_inputs(case, dtype), case, statistics_dtype(dtype)).results
    assert results.keys() == dense.keys()
    for name, true in truth.results.items():
        embedding_gradient = name in ("d_queries", "d_keys")
        assert results[name].dtype == (dtype if embedding_gradient else statistics_dtype(dtype)), name
        size = truth.sizes.get(name)
        if embedding_gradient:
            # what lies below the normal range of fp16 is rounded as its smallest normal number
            size = size.clamp(min=torch.finfo(dtype).smallest_normal * case.sizes[2] ** 0.5)
        value, grad = tolerance_for(dtype, backend)
        tolerance = grad if embedding_gradient else value
        error, allowed = norm_error(results[name], true, size), norm_error(dense[name], true, size)
        assert error <= allowed + tolerance, name
        if embedding_gradient:
            # the worst row, a maximum over two independent roundings, may be twice the dense one
            error, allowed = worst_row_error(results[name], true, size), worst_row_error(dense[name], true, size)
            assert error <= 2 * allowed + 2 * tolerance, name


def _combinations():
    """Every case for every backend and dtype; for GPU kernels on a CPU, thirty times slower, each case in one dtype."""
    for k, case in enumerate(CASES):
        for name in AVAILABLE_BACKENDS:
            for dtype in DTYPES if name not in SLOW_BACKENDS else [DTYPES[(k + k // len(DTYPES)) % len(DTYPES)]]:
                yield pytest.param(case, dtype, name, id=f"{name}-{str(dtype).removeprefix('torch.')}-{case}")


@pytest.mark.own_choice
@pytest.mark.parametrize("case, dtype, backend", _combinations())
def test_values_and_gradients(case, dtype, backend):
    check_case(case, dtype, backend)

"""torch.library.opcheck of the raw operators: schema, fakes, dynamic shapes. Inputs do not require grad."""

import pytest
import torch
from torch.library import opcheck

from contrastive_ops import gram_volume, similarity_statistics, volume_statistics
from contrastive_ops.testing import Case, make_inputs

CASES = [
    Case("everything", (5, 7, 3), columns=False),
    Case("off_diagonal", (5, 7, 3), rows=False),
    Case("few_ids", (5, 7, 3), batch=2, row_bias=True, col_bias=True),
    Case("self_sup_con", (6, 6, 3), row_bias=True, col_bias=True),
    Case("off_diagonal", (200, 150, 8)),  # more scores than the workspace holds
    Case("off_diagonal", (0, 4, 3)),
]


class Recorder(torch.utils._python_dispatch.TorchDispatchMode):
    """Notes the arguments of our operators as they are called."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.namespace == "contrastive_ops":
            self.calls.append((function, args))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_operators(case, dtype, backend):
    inputs = make_inputs(case, dtype)
    with Recorder() as recorder:
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
            workspace_bytes=100_000,
            backend=backend,
        )
        sum(value.sum() for value in statistics if value is not None).backward()
    names = [function.name() for function, _ in recorder.calls]
    assert names == ["contrastive_ops::reduce", "contrastive_ops::reduce_backward"]
    check_calls(recorder, dtype, backend)


@pytest.mark.parametrize("count, shape", [(1, (4, 3)), (2, (5, 6)), (3, (0, 4)), (2, (2, 3, 6))], ids=str)
def test_operators_of_volumes(count, shape, dtype, backend):
    anchor, *modalities = (torch.randn(shape, dtype=dtype, requires_grad=True) for _ in range(count + 1))
    with Recorder() as recorder:
        lse = volume_statistics(anchor, modalities, backend=backend).row_lse
        (lse.sum() + gram_volume(anchor, modalities).sum()).backward()
    assert {function.name().removeprefix("contrastive_ops::") for function, _ in recorder.calls} == {
        "tuple_spans",
        "tuple_spans_backward",
        "reduce",
        "reduce_backward",
    }
    check_calls(recorder, dtype, backend)


def check_calls(recorder, dtype, backend):
    for function, args in recorder.calls:
        detached = torch.utils._pytree.tree_map_only(torch.Tensor, torch.Tensor.detach, args)
        # the autograd formula is an autograd.Function around the operators, so there is none to test on them
        opcheck(function, detached, test_utils=("test_schema", "test_faketensor"))
        if dtype == torch.float32 and backend == "cpu":  # what is traced are fakes, which know no backend
            opcheck(function, detached, test_utils="test_aot_dispatch_dynamic")

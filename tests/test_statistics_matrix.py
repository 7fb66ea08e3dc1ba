"""The matrix of `contrastive_ops.testing.matrix` on every backend and dtype: values and every gradient."""

import pytest
import torch
from conftest import AVAILABLE_BACKENDS, SLOW_BACKENDS

from contrastive_ops.testing import DTYPES
from contrastive_ops.testing.matrix import CASES, is_large
from contrastive_ops.testing.verdicts import check_case


def _combinations():
    """Every case for every backend and dtype; for GPU kernels on a CPU, thirty times slower, each case in one dtype."""
    for k, case in enumerate(CASES):
        for name in AVAILABLE_BACKENDS:
            for dtype in DTYPES if name not in SLOW_BACKENDS else [DTYPES[(k + k // len(DTYPES)) % len(DTYPES)]]:
                yield pytest.param(case, dtype, name, id=f"{name}-{str(dtype).removeprefix('torch.')}-{case}")


@pytest.mark.own_choice
@pytest.mark.parametrize("case, dtype, backend", _combinations())
def test_values_and_gradients(case, dtype, backend):
    if is_large(case):
        torch.set_num_threads(2)
    check_case(case, dtype, backend)

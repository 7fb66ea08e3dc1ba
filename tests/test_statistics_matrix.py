"""The matrix of `contrastive_ops.testing.matrix` on every backend and dtype: values and every gradient."""

import pytest
import torch
from conftest import AVAILABLE_BACKENDS, SLOW_BACKENDS

from contrastive_ops.testing import DTYPES
from contrastive_ops.testing.matrix import CASES, is_large
from contrastive_ops.testing.verdicts import check_case

SEVERAL_GPU_TILES = 40_000  # pairs: 2 x 3 tiles of 128 x 128


def _combinations():
    """Every case for every backend and dtype, the backends one after another, as they share the truth.

    GPU kernels on a CPU are thirty times slower: each case in one dtype, and of the cases that are there to cross
    native tiles an eighth; their own tiles are crossed by the smaller ones.
    """
    for k, case in enumerate(CASES):
        beyond_their_tiles = case.sizes[0] * case.sizes[1] > SEVERAL_GPU_TILES and k % 8
        slow = [] if beyond_their_tiles else SLOW_BACKENDS
        for place, dtype in enumerate(DTYPES):
            for name in AVAILABLE_BACKENDS:
                if name not in SLOW_BACKENDS or (name in slow and place == (k + k // len(DTYPES)) % len(DTYPES)):
                    yield pytest.param(case, dtype, name, id=f"{name}-{str(dtype).removeprefix('torch.')}-{case}")


@pytest.mark.own_choice
@pytest.mark.parametrize("case, dtype, backend", list(_combinations()))
def test_values_and_gradients(case, dtype, backend):
    if is_large(case) and backend == "cpu":  # the others gain nothing by it
        torch.set_num_threads(2)
    check_case(case, dtype, backend)

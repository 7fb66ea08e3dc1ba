"""nt_xent against the dense formula in float64."""

import dense_losses
import pytest
import torch
from comparison import check_loss, gradients

from contrastive_ops import nt_xent
from contrastive_ops.problem import statistics_dtype
from contrastive_ops.testing import make_pairs


def leaves_for(n, d, dtype):
    z1, z2 = (x.requires_grad_() for x in make_pairs(n, d, dtype))
    return {"z1": z1, "z2": z2, "temperature": torch.tensor(0.125, dtype=statistics_dtype(dtype)).requires_grad_()}


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("n, d", [(2, 1), (5, 3), (130, 64), (257, 100)])
def test_values_and_gradients(n, d, reduction, dtype, backend):
    reduce = {"none": lambda x: x, "sum": torch.sum, "mean": torch.mean}[reduction]

    def ours(x):
        return nt_xent(x["z1"], x["z2"], temperature=x["temperature"], reduction=reduction, backend=backend)

    def dense(x, exact=False):
        return reduce(dense_losses.nt_xent(x["z1"], x["z2"], x["temperature"], exact))

    check_loss(ours, lambda x: dense(x, exact=True), dense, leaves_for(n, d, dtype), dtype, backend)


@pytest.mark.parametrize("n", [0, 1])
def test_without_negatives_loss_and_gradients_are_zero(n, dtype, backend):
    leaves = leaves_for(n, 7, dtype)
    value, grads = gradients(lambda x: nt_xent(x["z1"], x["z2"], backend=backend), leaves | {})
    assert value == 0
    assert all((grad == 0).all() for grad in grads.values())


def test_default_temperature_is_simclrs():
    z1, z2 = make_pairs(20, 8, torch.float64)
    torch.testing.assert_close(nt_xent(z1, z2), dense_losses.nt_xent(z1, z2, 0.5).mean(), rtol=1e-13, atol=0)

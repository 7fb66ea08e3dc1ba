"""Squared distances do not change under a common shift, so features far from 0 or close together lose no digits.

The truth is made of float64 differences: all backends would agree with one another on a wrong number.
"""

import pytest
import torch
import torch.nn.functional as F
from objectives.geometry import dense_cross_uniformity, dense_uniformity
from public_calls import unit

from contrastive_ops import contrastive_gap_loss, cross_uniformity, uniformity
from contrastive_ops.testing import norm_error


def far(seed):
    """Not normalised, spread 0.05 around 100."""
    return 100 + 0.05 * torch.randn(200, 64, generator=torch.Generator().manual_seed(seed))


def collapsed(seed):
    """Unit vectors of nearly one direction: the very state that uniformity is to repair."""
    noise = torch.randn(200, 64, generator=torch.Generator().manual_seed(seed))
    return F.normalize(unit(64).detach() + 1e-3 * noise, dim=1)


FEATURES = {"far": far, "collapsed": collapsed}
LOSSES = {
    "uniformity": (uniformity, dense_uniformity, 1),
    "uniformity_wang_isola": (
        lambda x, **options: uniformity(x, diagonal=False, **options),
        lambda x: dense_uniformity(x, diagonal=False),
        1,
    ),
    "cross_uniformity": (cross_uniformity, dense_cross_uniformity, 2),
    "contrastive_gap": (
        # at scale 0 its cross-entropies are the constant log N, so that distances alone are left
        lambda x, y, **options: contrastive_gap_loss(x, y, 0.0, across=True, **options),
        lambda x, y: (
            torch.tensor(len(x)).double().log()
            + (x - y).square().sum(1).mean()
            + (dense_uniformity(x) + dense_uniformity(y)) / 2
            + dense_cross_uniformity(x, y)
        ),
        2,
    ),
}


def value_and_gradients(loss, inputs, **options):
    leaves = [x.detach().requires_grad_() for x in inputs]
    value = loss(*leaves, **options)
    return [value.detach(), *torch.autograd.grad(value, leaves)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("name", LOSSES)
def test_no_digit_is_lost_to_a_common_shift(name, features, dtype, backend):
    loss, dense, count = LOSSES[name]
    inputs = [FEATURES[features](seed).to(dtype) for seed in range(count)]
    found = value_and_gradients(loss, inputs, backend=backend)
    truth = value_and_gradients(dense, [x.double() for x in inputs])
    eps = torch.finfo(torch.float32).eps
    assert abs(found[0] - truth[0]) <= eps * max(abs(truth[0]), 1)  # terms are of size 1 where all distances are near 0
    rounding = torch.finfo(dtype).eps / 2  # once, of the gradients
    for part, true in zip(found[1:], truth[1:], strict=True):
        assert norm_error(part, true) <= 8 * eps + rounding


@pytest.mark.parametrize("name", LOSSES)
def test_autocast_rounds_the_features_and_not_their_distances(name):
    loss, _, count = LOSSES[name]
    inputs = [far(seed) for seed in range(count)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(*inputs)
    torch.testing.assert_close(value, loss(*(x.bfloat16() for x in inputs)), rtol=0, atol=1e-6)

"""Memorised pairs at scale 100, per-pair losses 1e-9 .. 1e-3: every row's gradient is right, where dense fp32 fails."""

import dense_losses
import pytest
import torch
from comparison import cast, gradients
from conftest import SLOW_BACKENDS

from contrastive_ops import clip_loss, info_nce, nt_xent
from contrastive_ops.testing import DTYPES, make_confident_pairs, tolerance_for, worst_row_error

SCALE = 100.0

OURS = {
    "clip": lambda x, backend: clip_loss(x["a"], x["b"], SCALE, backend=backend),
    "info_nce": lambda x, backend: info_nce(x["a"], x["b"], temperature=1 / SCALE, backend=backend),
    "info_nce_given": lambda x, backend: info_nce(
        x["a"], x["b"], temperature=1 / SCALE, negatives=x["bank"], backend=backend
    ),
    "nt_xent": lambda x, backend: nt_xent(x["a"], x["b"], temperature=1 / SCALE, backend=backend),
}
DENSE = {
    "clip": lambda x, exact: dense_losses.clip(x["a"], x["b"], SCALE, exact=exact).mean(),
    "info_nce": lambda x, exact: dense_losses.info_nce(x["a"], x["b"], 1 / SCALE, exact=exact).mean(),
    "info_nce_given": lambda x, exact: dense_losses.info_nce(x["a"], x["b"], 1 / SCALE, x["bank"], exact).mean(),
    "nt_xent": lambda x, exact: dense_losses.nt_xent(x["a"], x["b"], 1 / SCALE, exact).mean(),
}


def sizes(backend=None):
    """N, D. GPU kernels on a CPU take milliseconds for a tile."""
    return (192, 128) if backend in SLOW_BACKENDS else (600, 512)


def leaves_for(dtype, backend=None):
    a, b = (x.requires_grad_() for x in make_confident_pairs(*sizes(backend), dtype))
    return {"a": a, "b": b, "bank": make_confident_pairs(*sizes(backend), dtype, seed=1)[1]}


def worst_row(grads, truth):
    return max(worst_row_error(grads[name], truth[name]) for name in truth)


def test_the_pairs_are_what_they_claim_to_be():
    a, b = make_confident_pairs(*sizes(), torch.float64)
    losses = dense_losses.clip(a, b, SCALE)
    assert 1e-9 < losses.min() < 1e-8 and 5e-5 < losses.max() < 1e-3


@pytest.mark.parametrize("name", OURS)
def test_worst_row_in_float32(name, backend):
    leaves = leaves_for(torch.float32, backend)
    value, grads = gradients(lambda x: OURS[name](x, backend), leaves)
    true_value, truth = gradients(lambda x: DENSE[name](x, True), cast(leaves, torch.float64))
    torch.testing.assert_close(value.double(), true_value, rtol=1e-5, atol=0)
    assert worst_row(grads, truth) <= 1e-4


@pytest.mark.parametrize("name", OURS)
def test_dense_float32_is_off_by_a_tenth_and_more(name):
    """The reason for softplus(lse_negatives - positive): the same pairs through a float32 cross-entropy."""
    leaves = leaves_for(torch.float32)
    _, grads = gradients(lambda x: DENSE[name](x, False), leaves)
    _, truth = gradients(lambda x: DENSE[name](x, True), cast(leaves, torch.float64))
    assert worst_row(grads, truth) > 0.1


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("dtype", [d for d in DTYPES if d != torch.float32], ids=str)
def test_worst_row_in_other_dtypes(name, dtype, backend):
    """bf16 and fp16 carry only the rounding of their output. fp16 gradients are scaled up: 1e-9 is below its range."""
    leaves = leaves_for(dtype, backend)
    upstream = torch.tensor(2.0**16 if dtype == torch.float16 else 1.0, dtype=torch.float64)
    value, grads = gradients(lambda x: OURS[name](x, backend), leaves, upstream)
    true_value, truth = gradients(lambda x: DENSE[name](x, True), cast(leaves, torch.float64), upstream)
    exact = dtype == torch.float64
    torch.testing.assert_close(value.double(), true_value, rtol=1e-12 if exact else 1e-5, atol=0)
    if dtype == torch.float16:
        # rows below the normal range of fp16 are rounded absolutely, to half of its smallest number
        for key in truth:
            limit = 1e-4 * truth[key].abs() + 2.0**-11 * truth[key].abs() + 2.0**-25
            assert ((grads[key].double() - truth[key]).norm(dim=1) <= limit.norm(dim=1) * 2).all()
    else:
        assert worst_row(grads, truth) <= (1e-11 if exact else 1e-4 + tolerance_for(dtype, backend).grad)

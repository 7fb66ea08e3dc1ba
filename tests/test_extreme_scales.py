"""Scale 1000, temperature 1e-3, unnormalised inputs, scale 0, negative scale: finite and right."""

import dense_losses
import pytest
import torch
from comparison import check_loss

from contrastive_ops import clip_loss, info_nce, nt_xent, sup_con
from contrastive_ops.problem import statistics_dtype
from contrastive_ops.testing import make_pairs

LABELS = torch.arange(90).repeat(2)  # the two views of an item share its label

# name: (ours, dense); x holds a, b and scale
LOSSES = {
    "clip": (
        lambda x, backend: clip_loss(x["a"], x["b"], x["scale"], reduction="none", backend=backend),
        lambda x, exact: dense_losses.clip(x["a"], x["b"], x["scale"], exact=exact),
    ),
    "clip_smoothed": (
        lambda x, backend: clip_loss(
            x["a"], x["b"], x["scale"], label_smoothing=0.1, reduction="none", backend=backend
        ),
        lambda x, exact: dense_losses.clip(x["a"], x["b"], x["scale"], 0.1, exact=exact),
    ),
    "info_nce": (
        lambda x, backend: info_nce(x["a"], x["b"], temperature=1 / x["scale"], reduction="none", backend=backend),
        lambda x, exact: dense_losses.info_nce(x["a"], x["b"], 1 / x["scale"], exact=exact),
    ),
    "info_nce_given": (
        lambda x, backend: info_nce(
            x["a"], x["b"], temperature=1 / x["scale"], negatives=x["b"].detach(), reduction="none", backend=backend
        ),
        lambda x, exact: dense_losses.info_nce(x["a"], x["b"], 1 / x["scale"], x["b"].detach(), exact=exact),
    ),
    "nt_xent": (
        lambda x, backend: nt_xent(x["a"], x["b"], temperature=1 / x["scale"], reduction="none", backend=backend),
        lambda x, exact: dense_losses.nt_xent(x["a"], x["b"], 1 / x["scale"], exact=exact),
    ),
    "sup_con": (
        lambda x, backend: sup_con(
            torch.cat((x["a"], x["b"])), LABELS, temperature=1 / x["scale"], reduction="none", backend=backend
        ),
        lambda x, exact: dense_losses.sup_con(torch.cat((x["a"], x["b"])), LABELS, 1 / x["scale"], exact=exact),
    ),
}
SCALES = {"1000": 1000.0, "1": 1.0, "negative": -40.0, "small": 1e-2}
# a temperature is positive
SCALED = [(name, key) for name in LOSSES for key, scale in SCALES.items() if scale > 0 or name.startswith("clip")]


def leaves_for(dtype, scale, size=1.0):
    a, b = (x.mul(size).to(dtype).requires_grad_() for x in make_pairs(90, 24))
    return {"a": a, "b": b, "scale": torch.tensor(scale, dtype=statistics_dtype(dtype)).requires_grad_()}


def check(name, leaves, dtype, backend):
    ours, dense = LOSSES[name]
    check_loss(lambda x: ours(x, backend), lambda x: dense(x, True), lambda x: dense(x, False), leaves, dtype, backend)


@pytest.mark.parametrize("name, scale", SCALED)
def test_scale(name, scale, dtype, backend):
    check(name, leaves_for(dtype, SCALES[scale]), dtype, backend)


@pytest.mark.parametrize("size", [30.0, 1e-3])
@pytest.mark.parametrize("name", LOSSES)
def test_unnormalised_inputs(name, size, dtype, backend):
    """Scores up to 900."""
    check(name, leaves_for(dtype, 1.0, size), dtype, backend)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_scale_zero(label_smoothing, dtype, backend):
    """log N for every pair; no gradient for the features, the true one for the scale."""
    leaves = leaves_for(dtype, 0.0)
    check_loss(
        lambda x: clip_loss(x["a"], x["b"], x["scale"], label_smoothing=label_smoothing, backend=backend),
        lambda x: dense_losses.clip(x["a"], x["b"], x["scale"], label_smoothing).mean(),
        lambda x: dense_losses.clip(x["a"], x["b"], x["scale"], label_smoothing, exact=False).mean(),
        leaves,
        dtype,
        backend,
    )


@pytest.mark.parametrize("name", LOSSES)
def test_scores_beyond_the_range_of_exp_stay_finite(name, backend):
    """Scores of 90,000: exp of one of them overflows float64 as well."""
    ours, _ = LOSSES[name]
    leaves = leaves_for(torch.float32, 1000.0, size=10.0)
    losses = ours(leaves, backend)
    grads = torch.autograd.grad(losses.sum(), list(leaves.values()), allow_unused=True, materialize_grads=True)
    assert losses.isfinite().all()
    assert all(grad.isfinite().all() for grad in grads)

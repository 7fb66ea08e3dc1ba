"""The losses of public libraries give the same numbers and gradients, in float64 and float32."""

import public_losses
import pytest
import torch
from comparison import cast, gradients
from torch.nn import functional as F

from contrastive_ops import (
    alignment,
    clip_loss,
    dcl,
    decoupled_softmax,
    info_nce,
    nt_xent,
    poly_view,
    sup_con,
    uniformity,
)
from contrastive_ops.testing import make_pairs

N, D, TEMPERATURE = 24, 16, 0.2
LABELS = torch.tensor([0, 1, 2, 3, 4, 5] * 3 + [6, 7, 8, 9, 9, 8])  # 6 and 7 have no positive
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6}


def agree(ours, theirs, dtype, **leaves):
    """Values and all gradients, relative to the largest entry. The public code runs in float64."""
    mine = {name: leaf.to(dtype).requires_grad_() for name, leaf in leaves.items()}
    value, grads = gradients(lambda x: ours(**x), mine)
    expected, expected_grads = gradients(lambda x: theirs(**x), cast(mine, torch.float64))
    rtol = TOLERANCE[dtype]
    torch.testing.assert_close(value.double(), expected, rtol=rtol, atol=0)
    for name, grad in expected_grads.items():
        torch.testing.assert_close(grads[name].double(), grad, rtol=0, atol=rtol * grad.abs().max().item())


def pairs():
    a, b = make_pairs(N, D, torch.float64)
    return {"a": a, "b": b}


@pytest.fixture(params=[torch.float64, torch.float32], ids=str)
def precision(request):
    return request.param


def test_open_clip(precision, backend):
    theirs = public_losses.open_clip_loss().ClipLoss()
    agree(
        lambda a, b, scale: clip_loss(a, b, scale, backend=backend),
        lambda a, b, scale: theirs(a, b, scale),
        precision,
        **pairs(),
        scale=torch.tensor(14.25),
    )


def test_torch_linear_cross_entropy_in_both_directions(precision, backend):
    options = torch.nn.LinearCrossEntropyOptions()  # the chunked form
    target = torch.arange(N)

    def theirs(a, b, scale):
        one, other = (
            F.linear_cross_entropy(x * scale, y, target, label_smoothing=0.1, options=options)
            for x, y in ((a, b), (b, a))
        )
        return 0.5 * (one + other)

    agree(
        lambda a, b, scale: clip_loss(a, b, scale, label_smoothing=0.1, backend=backend),
        theirs,
        precision,
        **pairs(),
        scale=torch.tensor(14.25),
    )


def test_lightly_nt_xent(precision, backend):
    theirs = public_losses.lightly_ntxent().NTXentLoss(temperature=TEMPERATURE)
    # it normalises, so ours does too: unit vectors alone would hide the gradient's radial part
    agree(
        lambda a, b: nt_xent(F.normalize(a, dim=1), F.normalize(b, dim=1), temperature=TEMPERATURE, backend=backend),
        lambda a, b: theirs(a, b),
        precision,
        **pairs(),
    )


def test_lightly_memory_bank(precision, backend):
    """MoCo's loss: one positive against a bank of negatives."""
    theirs = public_losses.lightly_ntxent().NTXentLoss(temperature=TEMPERATURE, memory_bank_size=(50, D))
    bank = F.normalize(make_pairs(50, D, torch.float64, seed=4)[0], dim=1)

    def filled(a, b):
        # it writes its keys over the bank after each call with gradient
        theirs.memory_bank.bank = bank.clone()
        return theirs(a, b)

    def ours(a, b):
        a, b = F.normalize(a, dim=1), F.normalize(b, dim=1)
        return info_nce(a, b, temperature=TEMPERATURE, negatives=bank.split(16), backend=backend)

    agree(ours, filled, precision, **pairs())


def test_metric_learning_nt_xent(precision, backend):
    theirs = public_losses.metric_learning("ntxent_loss").NTXentLoss(temperature=TEMPERATURE)
    agree(
        lambda a, b: nt_xent(F.normalize(a, dim=1), F.normalize(b, dim=1), temperature=TEMPERATURE, backend=backend),
        lambda a, b: theirs(torch.cat((a, b)), torch.arange(N).repeat(2)),
        precision,
        **pairs(),
    )


def test_metric_learning_sup_con(precision, backend):
    theirs = public_losses.metric_learning("supcon_loss").SupConLoss(temperature=TEMPERATURE)
    agree(
        lambda a: sup_con(F.normalize(a, dim=1), LABELS, temperature=TEMPERATURE, backend=backend),
        lambda a: theirs(a, LABELS),
        precision,
        a=pairs()["a"],
    )


def unit(*tensors):
    return (F.normalize(x, dim=-1) for x in tensors)


@pytest.mark.parametrize("sigma", [None, 0.4])
def test_lightly_dcl(sigma, precision, backend):
    """Its weights are detached, its negatives a union."""
    module = public_losses.lightly_loss("dcl_loss")
    theirs = module.DCLLoss(TEMPERATURE) if sigma is None else module.DCLWLoss(TEMPERATURE, sigma)
    agree(
        lambda a, b: dcl(*unit(a, b), temperature=TEMPERATURE, sigma=sigma, backend=backend),
        lambda a, b: theirs(a, b),
        precision,
        **pairs(),
    )


def test_lightly_uniformity_and_alignment(precision, backend):
    theirs = public_losses.lightly_loss("hypersphere_loss").HypersphereLoss(t=1.5, lam=0.7, alpha=2.0)

    def ours(a, b):
        a, b = unit(a, b)
        energy = sum(uniformity(x, t=1.5, diagonal=False, backend=backend) for x in (a, b))
        return alignment(a, b) + 0.7 * energy / 2

    agree(ours, lambda a, b: theirs(a, b), precision, **pairs())


def test_open_clip_coca(precision, backend):
    """Its contrastive part takes the mean of the directions."""
    theirs = public_losses.open_clip_loss().CoCaLoss(caption_loss_weight=1.0, clip_loss_weight=1.0)
    captions, labels = torch.zeros(1, 2, 3), torch.ones(1, 2, dtype=torch.long)
    agree(
        lambda a, b, scale: clip_loss(a, b, scale, directions="sum", backend=backend) / 2,
        lambda a, b, scale: theirs(a, b, captions, labels, scale)[0],
        precision,
        **pairs(),
        scale=torch.tensor(14.25),
    )


def test_metric_learning_nt_xent_of_several_positives(precision, backend):
    """It keeps the positives apart: the decoupled softmax, and for views of an instance the Poly-View loss."""
    theirs = public_losses.metric_learning("ntxent_loss").NTXentLoss(temperature=TEMPERATURE)
    labels = torch.arange(N) % 6
    agree(
        lambda a, b: decoupled_softmax(*unit(a, b), labels, labels, temperature=TEMPERATURE, backend=backend),
        # the same tensor of labels would stand for the same items
        lambda a, b: theirs(a, labels, ref_emb=b, ref_labels=labels.clone()),
        precision,
        **pairs(),
    )
    agree(
        lambda a, b: poly_view(torch.stack((*unit(a, b), *unit(a + b))), temperature=TEMPERATURE, backend=backend),
        lambda a, b: theirs(torch.cat((a, b, a + b)), torch.arange(N).repeat(3)),
        precision,
        **pairs(),
    )

"""`gram_loss` and `gram_volume` against stored Gram matrices in float64, and GRAM's own way of stopping gradients."""

import pytest
import torch
import torch.nn.functional as F
from comparison import check_loss
from dense_volumes import dense_volumes

from contrastive_ops import GramLoss, gram_loss, gram_volume
from contrastive_ops.backends.cpu import CpuBackend
from contrastive_ops.problem import statistics_dtype
from contrastive_ops.testing import norm_error, worst_row_error


def make_leaves(n, d, count, dtype, temperature=0.2):
    """Tuples whose vectors agree in part, as halfway through training."""
    shared, *own = torch.randn(count + 2, n, d, generator=torch.Generator().manual_seed(0)).unbind(0)
    vectors = [F.normalize(shared + vector, dim=-1).to(dtype).requires_grad_() for vector in own]
    leaves = {"anchor": vectors[0], **{f"modality{k}": vector for k, vector in enumerate(vectors[1:])}}
    return leaves | {"temperature": torch.tensor(temperature, dtype=statistics_dtype(dtype), requires_grad=True)}


def split(leaves):
    return (
        leaves["anchor"],
        [leaf for name, leaf in leaves.items() if name.startswith("modality")],
        leaves["temperature"],
    )


def written_down(leaves, *, label_smoothing, detach_keys, reduction="mean"):
    """GRAM's loss as in its paper and code, on stored volumes."""
    anchor, modalities, temperature = split(leaves)
    target = torch.arange(len(anchor))

    def direction(anchor, modalities, columns):
        logits = -dense_volumes(anchor, modalities) / temperature
        logits = logits.mT if columns else logits
        return F.cross_entropy(logits, target, label_smoothing=label_smoothing, reduction="none")

    fixed = (lambda x: x.detach()) if detach_keys else (lambda x: x)
    rows = direction(anchor, [fixed(x) for x in modalities], columns=False)
    columns = direction(fixed(anchor), modalities, columns=True)
    losses = (rows + columns) / 2
    return {"mean": losses.mean, "sum": losses.sum, "none": lambda: losses}[reduction]()


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("detach_keys", [False, True])
def test_values_and_gradients(count, label_smoothing, detach_keys, dtype, backend):
    options = {"label_smoothing": label_smoothing, "detach_keys": detach_keys, "reduction": "none"}

    def ours(leaves):
        anchor, modalities, temperature = split(leaves)
        # each part of a half-precision gradient is rounded before they add up
        parts = [x if dtype.itemsize > 2 else x.float() for x in (anchor, *modalities)]
        return gram_loss(parts[0], parts[1:], temperature=temperature, backend=backend, **options)

    def dense(leaves):
        return written_down(leaves, **options)

    check_loss(ours, dense, dense, make_leaves(33, 40, count, dtype), dtype, backend)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_reductions_and_module(reduction, backend):
    leaves = make_leaves(12, 16, 2, torch.float64)
    anchor, modalities, temperature = split(leaves)
    expected = written_down(leaves, label_smoothing=0.1, detach_keys=True, reduction=reduction)
    options = {"temperature": temperature, "label_smoothing": 0.1, "detach_keys": True, "reduction": reduction}
    found = gram_loss(anchor, modalities, backend=backend, **options)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    assert torch.equal(GramLoss(backend=backend, **options)(anchor, modalities), found)


@pytest.mark.parametrize("n", [0, 1])
def test_nothing_to_contrast(n, dtype, backend):
    anchor, *modalities = (torch.randn(n, 8).to(dtype).requires_grad_() for _ in range(3))
    loss = gram_loss(anchor, modalities, backend=backend)
    gradients = torch.autograd.grad(loss, [anchor, *modalities])
    assert loss.item() == 0.0
    assert all(torch.equal(gradient, torch.zeros_like(gradient)) for gradient in gradients)


@pytest.mark.parametrize("detach_keys", [False, True])
def test_a_frozen_tower_saves_its_products(detach_keys, monkeypatch):
    """The kernels are asked for what the graph takes: neither dQ nor dK of a side that stands still."""
    asked = []
    backward = CpuBackend.backward

    def recorded(*arguments):
        asked.append((arguments[-1].queries, arguments[-1].keys))
        return backward(*arguments)

    monkeypatch.setattr(CpuBackend, "backward", recorded)
    anchor, modalities, _ = split(make_leaves(20, 16, 2, torch.float32))
    fixed = [modality.detach() for modality in modalities]

    def gradients_of(anchor, modalities, towers):
        asked.clear()
        loss = gram_loss(anchor, modalities, detach_keys=detach_keys, backend="cpu")
        return torch.autograd.grad(loss, towers), sorted(asked)

    of_all, everything = gradients_of(anchor, modalities, [anchor, *modalities])
    (of_anchor,), for_anchor = gradients_of(anchor, fixed, [anchor])
    of_data, for_data = gradients_of(anchor.detach(), modalities, modalities)
    assert everything == ([(False, True), (True, False)] if detach_keys else [(True, True)])
    assert for_anchor == [(True, False)] and for_data == [(False, True)]
    for found, expected in zip((of_anchor, *of_data), of_all, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


def test_half_precision_inputs(backend):
    """bfloat16 embeddings give the loss of the rounded numbers, and gradients within their own rounding."""
    leaves = make_leaves(40, 64, 2, torch.bfloat16)
    anchor, modalities, temperature = split(leaves)
    loss = gram_loss(anchor, modalities, temperature=temperature, backend=backend)
    exact = {name: leaf.detach().double().requires_grad_() for name, leaf in leaves.items()}
    true = written_down(exact, label_smoothing=0.0, detach_keys=False)
    assert norm_error(loss, true) < 2e-6
    gradients = torch.autograd.grad(loss, [anchor, *modalities])
    true_gradients = torch.autograd.grad(true, list(exact.values())[:3])
    for found, expected in zip(gradients, true_gradients, strict=True):
        assert norm_error(found, expected) < 3 * 2.0**-8


def test_after_memorisation(backend):
    """Tuples that agree to 1e-4, where V_ii^2 is below the rounding of float32: loss and gradients hold."""
    generator = torch.Generator().manual_seed(2)
    shared, *noise = F.normalize(torch.randn(4, 50, 48, generator=generator, dtype=torch.float64), dim=-1)
    exact = [F.normalize(shared + 1e-4 * x, dim=-1).float() for x in noise]
    leaves = [x.clone().requires_grad_() for x in exact]
    exact = [x.double().requires_grad_() for x in exact]
    # tuples collapse to lines: volumes are of the size of 1e-4, so the temperature is too
    losses = [
        gram_loss(x[0], x[1:], temperature=1e-5, reduction="none", backend=name)
        for x, name in ((leaves, backend), (exact, "reference"))
    ]
    assert norm_error(*losses) < 1e-4
    gradients = [torch.autograd.grad(loss.sum(), x) for loss, x in zip(losses, (leaves, exact), strict=True)]
    for found, true in zip(*gradients, strict=True):
        assert norm_error(found, true) < 1e-3
    stored = written_down(
        {"anchor": leaves[0], "modality0": leaves[1], "modality1": leaves[2], "temperature": torch.tensor(1e-5)},
        label_smoothing=0.0,
        detach_keys=False,
        reduction="none",
    )
    assert not norm_error(stored, losses[1]) < 0.1  # the test is about something


class TestGramVolume:
    @pytest.mark.parametrize("count", range(1, 8))
    def test_values_and_gradients(self, count, dtype):
        shape = (2, 9, 24) if count % 2 else (9, 24)
        leaves = [torch.randn(shape).to(dtype).requires_grad_() for _ in range(count + 1)]
        exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
        stacked = torch.stack(exact, -2)
        truth = torch.linalg.det(stacked @ stacked.mT).sqrt()
        found = gram_volume(leaves[0], leaves[1:])
        weight = torch.rand(shape[:-1], dtype=torch.float64)
        gradients = torch.autograd.grad(found, leaves, weight.to(found.dtype))
        true_gradients = torch.autograd.grad(truth, exact, weight)
        unit = torch.finfo(dtype).eps
        assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert norm_error(found, truth) < 1e-13 if dtype == torch.float64 else 1e-7
        for gradient, true in zip(gradients, true_gradients, strict=True):
            assert norm_error(gradient, true) < max(unit, 1e-13)

    @pytest.mark.parametrize("angle", [1e-1, 1e-2, 1e-3, 1e-4])
    def test_nearly_dependent_in_float32(self, angle):
        """Every vector within a small angle of the others: relative errors of each volume and each gradient row."""
        shared, *noise = torch.randn(4, 20, 24, dtype=torch.float64)
        leaves = [F.normalize(shared + angle * x, dim=-1).float().requires_grad_() for x in noise]
        exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
        _, r = torch.linalg.qr(torch.stack(exact, -1))
        truth = r.diagonal(dim1=-2, dim2=-1).prod(-1).abs()
        found = gram_volume(leaves[0], leaves[1:])
        assert worst_row_error(found[:, None], truth[:, None]) < 1e-6
        gradients, true = (torch.autograd.grad(v.sum(), x) for v, x in ((found, leaves), (truth, exact)))
        for gradient, expected in zip(gradients, true, strict=True):
            assert worst_row_error(gradient, expected) < 1e-6

    def test_dependent_vectors(self, dtype):
        x = torch.randn(5, 6).to(dtype).requires_grad_()
        for modalities in ([x, -x], [2 * x], [torch.zeros_like(x)], [torch.randn(5, 6).to(dtype)] * 2):
            volume = gram_volume(x, modalities)
            (gradient,) = torch.autograd.grad(volume.sum(), x)
            assert torch.equal(volume, torch.zeros_like(volume)) and torch.equal(gradient, torch.zeros_like(gradient))

"""clip_loss against the dense formula in float64."""

import dense_losses
import pytest
import torch
from comparison import check_loss, gradients

from contrastive_ops import clip_loss
from contrastive_ops.problem import statistics_dtype
from contrastive_ops.testing import make_pairs


def leaves_for(n, d, dtype, scale=14.25):
    images, texts = (x.requires_grad_() for x in make_pairs(n, d, dtype))
    return {
        "images": images,
        "texts": texts,
        "scale": torch.tensor(scale, dtype=statistics_dtype(dtype)).requires_grad_(),
    }


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("n, d", [(2, 1), (5, 3), (130, 64), (400, 100)])
def test_values_and_gradients(n, d, label_smoothing, reduction, dtype, backend):
    reduce = {"none": lambda x: x, "sum": torch.sum, "mean": torch.mean}[reduction]

    def ours(x):
        options = {"label_smoothing": label_smoothing, "reduction": reduction, "backend": backend}
        return clip_loss(x["images"], x["texts"], x["scale"], **options)

    def dense(x, exact=False):
        return reduce(dense_losses.clip(x["images"], x["texts"], x["scale"], label_smoothing, exact))

    check_loss(ours, lambda x: dense(x, exact=True), dense, leaves_for(n, d, dtype), dtype, backend)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.3])
def test_it_is_the_textbook_cross_entropy(label_smoothing, backend):
    images, texts = make_pairs(60, 16, torch.float64)
    logits, target = 10.0 * images @ texts.mT, torch.arange(60)
    options = {"label_smoothing": label_smoothing, "reduction": "none"}
    expected = 0.5 * sum(torch.nn.functional.cross_entropy(s, target, **options) for s in (logits, logits.mT))
    torch.testing.assert_close(clip_loss(images, texts, 10.0, **options, backend=backend), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_without_negatives_loss_and_gradients_are_zero(n, reduction, dtype, backend):
    leaves = leaves_for(n, 7, dtype)
    value, grads = gradients(
        lambda x: clip_loss(x["images"], x["texts"], x["scale"], reduction=reduction, backend=backend), leaves
    )
    assert value.shape == ((n,) if reduction == "none" else ())
    assert (value == 0).all()
    assert all((grad == 0).all() for grad in grads.values())


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)], ids=str)
@pytest.mark.parametrize("scale_dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_any_one_element_scale(shape, scale_dtype, label_smoothing, backend):
    """Only the number counts: shape and dtype of the parameter change neither shape nor dtype of the losses."""
    images, texts = make_pairs(9, 8)
    options = {"label_smoothing": label_smoothing, "reduction": "none", "backend": backend}
    scale = torch.full(shape, 12.5, dtype=scale_dtype).requires_grad_()
    value, grads = gradients(lambda x: clip_loss(images, texts, x["scale"], **options), {"scale": scale})
    plain = torch.tensor(12.5).requires_grad_()
    expected, expected_grads = gradients(lambda x: clip_loss(images, texts, x["scale"], **options), {"scale": plain})
    assert value.shape == (9,) and value.dtype == torch.float32
    assert torch.equal(value, expected)
    assert grads["scale"].shape == shape and grads["scale"].dtype == scale_dtype
    torch.testing.assert_close(grads["scale"].reshape(()), expected_grads["scale"].to(scale_dtype), rtol=1e-6, atol=0)

"""Under autocast, features are cast as a matmul would cast them; statistics and losses stay float32."""

import pytest
import torch

from contrastive_ops import clip_loss, info_nce, nt_xent, sup_con
from contrastive_ops.testing import make_pairs

N = 40
BANK = make_pairs(30, 16, seed=2)[0]
PRIVATE = torch.randn(N, 3, 16, generator=torch.Generator().manual_seed(1))
LOSSES = {
    "clip": lambda a, b, options: clip_loss(a, b, 9.0, **options),
    "clip_smoothed": lambda a, b, options: clip_loss(a, b, 9.0, label_smoothing=0.2, **options),
    "info_nce": lambda a, b, options: info_nce(a, b, **options),
    # a bank without gradient is no feature: it keeps its precision, and is cast to the queries' outside autocast
    "info_nce_bank": lambda a, b, options: info_nce(a, b, negatives=BANK, **options),
    "info_nce_grad_bank": lambda a, b, options: info_nce(a, b, negatives=b * 0.5, **options),
    "info_nce_private": lambda a, b, options: info_nce(a, b, negatives=PRIVATE.to(a.dtype), **options),
    "nt_xent": lambda a, b, options: nt_xent(a, b, **options),
    "sup_con": lambda a, b, options: sup_con(torch.cat((a, b)), torch.arange(N).repeat(2), **options),
}


@pytest.mark.parametrize("autocast_dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", LOSSES)
def test_autocast_is_a_cast_of_the_features(name, autocast_dtype, backend):
    options = {"reduction": "none", "backend": backend}
    a, b = (x.requires_grad_() for x in make_pairs(N, 16))
    with torch.autocast("cpu", dtype=autocast_dtype):
        losses = LOSSES[name](a, b, options)
    low = [x.detach().to(autocast_dtype).requires_grad_() for x in (a, b)]
    expected = LOSSES[name](*low, options)
    assert losses.dtype == expected.dtype == torch.float32
    torch.testing.assert_close(losses, expected, rtol=2e-6, atol=2e-6)
    weights = torch.linspace(0.5, 1.5, len(losses))
    grads = torch.autograd.grad(losses, (a, b), weights)
    expected_grads = torch.autograd.grad(expected, low, weights)
    for grad, wanted in zip(grads, expected_grads, strict=True):
        assert grad.dtype == torch.float32
        # both roles of a tensor are added after or before the rounding to 16 bits
        unit = torch.finfo(autocast_dtype).eps
        assert (grad - wanted).norm() <= unit * wanted.float().norm()


@pytest.mark.parametrize("name", LOSSES)
def test_float64_is_left_alone(name, backend):
    options = {"backend": backend}
    a, b = make_pairs(N, 16, torch.float64)
    expected = LOSSES[name](a, b, options)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(LOSSES[name](a, b, options), expected)


def test_mixed_inputs_meet_in_the_autocast_dtype(backend):
    """A bf16 tower beside an fp32 tower is refused outside autocast and fine inside."""
    a, b = make_pairs(N, 16)
    with pytest.raises(TypeError, match=r"share one dtype, got torch.bfloat16 and torch.float32"):
        clip_loss(a.bfloat16(), b, 9.0, backend=backend)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = clip_loss(a.bfloat16(), b, 9.0, backend=backend)
    assert torch.equal(loss, clip_loss(a.bfloat16(), b.bfloat16(), 9.0, backend=backend))


def test_backward_inside_autocast_is_the_same(backend):
    grads = []
    for inside in (False, True):
        a, b = (x.requires_grad_() for x in make_pairs(N, 16))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = info_nce(a, b, negatives=BANK, backend=backend) + clip_loss(a, b, 9.0, backend=backend)
            if inside:
                loss.backward()
        if not inside:
            loss.backward()
        grads.append(a.grad)
    assert torch.equal(*grads)

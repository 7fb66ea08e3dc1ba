"""The nn.Module forms are the functions, and a parameter as temperature is trained."""

import pytest
import torch

from contrastive_ops import ClipLoss, InfoNCELoss, NTXentLoss, SupConLoss, clip_loss, info_nce, nt_xent, sup_con
from contrastive_ops.testing import make_pairs

LABELS = torch.arange(20) % 4


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_modules_equal_functions(reduction, backend):
    a, b = make_pairs(20, 16)
    options = {"reduction": reduction, "backend": backend, "workspace_bytes": 1000}
    pairs = [
        (ClipLoss(label_smoothing=0.1, **options)(a, b, 9.0), clip_loss(a, b, 9.0, label_smoothing=0.1, **options)),
        (InfoNCELoss(temperature=0.2, **options)(a, b), info_nce(a, b, temperature=0.2, **options)),
        (InfoNCELoss(**options)(a, b, a.flip(0)), info_nce(a, b, negatives=a.flip(0), **options)),
        (NTXentLoss(temperature=0.2, **options)(a, b), nt_xent(a, b, temperature=0.2, **options)),
        (SupConLoss(temperature=0.2, **options)(a, LABELS), sup_con(a, LABELS, temperature=0.2, **options)),
    ]
    assert all(torch.equal(module, function) for module, function in pairs)


def test_modules_equal_functions_by_default():
    a, b = make_pairs(20, 16)
    assert torch.equal(ClipLoss()(a, b, 9.0), clip_loss(a, b, 9.0))
    assert torch.equal(InfoNCELoss()(a, b), info_nce(a, b))
    assert torch.equal(NTXentLoss()(a, b), nt_xent(a, b))
    assert torch.equal(SupConLoss()(a, LABELS), sup_con(a, LABELS))


@pytest.mark.parametrize("module", [InfoNCELoss, NTXentLoss, SupConLoss])
def test_a_parameter_as_temperature_is_registered_and_trained(module, backend):
    temperature = torch.nn.Parameter(torch.tensor(0.5))
    loss = module(temperature=temperature, backend=backend)
    assert [name for name, _ in loss.named_parameters()] == ["temperature"]
    a, b = make_pairs(20, 16)
    value = loss(a, LABELS if module is SupConLoss else b)
    value.backward()
    step = 1e-3 * temperature.grad.sign()
    with torch.no_grad():
        temperature -= step
        assert loss(a, LABELS if module is SupConLoss else b) < value

"""Every public function in torch.export, and every module form through pickle, torch.save and deepcopy."""

import copy
import io
import pickle

import pytest
import torch
from pair_calls import LOSSES, PRIMITIVES, pairs

import contrastive_ops

ONE_PROCESS = LOSSES | PRIMITIVES


class AsModule(torch.nn.Module):
    def __init__(self, call):
        super().__init__()
        self.call = call

    def forward(self, x, y):
        return self.call(x, y)


@pytest.mark.parametrize("name", ONE_PROCESS)
def test_exported(name):
    module, inputs, others = AsModule(ONE_PROCESS[name]), pairs(), pairs(seed=1)
    exported = torch.export.export(module, inputs, strict=False).module()
    torch.manual_seed(0)
    found = exported(*others)
    torch.manual_seed(0)
    torch.testing.assert_close(found, module(*others))


MODULES = [name for name in contrastive_ops.__all__ if isinstance(getattr(contrastive_ops, name), type)]
MODULES = [name for name in MODULES if issubclass(getattr(contrastive_ops, name), torch.nn.Module)]


def saved_and_loaded(module):
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES = {
    "pickle": lambda module: pickle.loads(pickle.dumps(module)),
    "torch.save": saved_and_loaded,
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("name", MODULES)
def test_copied(name, way):
    """Settings and parameters survive, and so does a parameter's part in the loss."""
    settings = {"workspace_bytes": 1000, "temperature": torch.nn.Parameter(torch.tensor(0.3))}
    kind = getattr(contrastive_ops, name)
    known = {key: value for key, value in settings.items() if key in kind.__signature__.parameters}
    arguments = (contrastive_ops.ClipLoss(),) if name == "MatryoshkaLoss" else ()
    module = kind(*arguments, **known)
    found = COPIES[way](module)
    assert type(found) is kind
    for key in kind.__signature__.parameters:
        expected = getattr(module, key)
        if isinstance(expected, torch.nn.Parameter):
            assert key in dict(found.named_parameters()) and torch.equal(getattr(found, key), expected)
        else:
            assert getattr(found, key) == expected


@pytest.mark.parametrize("way", COPIES)
def test_a_relation_as_a_setting_is_copied(way):
    x, y = pairs()
    module = contrastive_ops.ClipLoss(negatives=contrastive_ops.different(torch.arange(len(x)) // 2))
    found = COPIES[way](module)(x, y, 3.0)
    assert torch.equal(found, module(x, y, 3.0)) and not torch.equal(found, contrastive_ops.clip_loss(x, y, 3.0))

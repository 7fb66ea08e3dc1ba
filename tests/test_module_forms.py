"""The nn.Module form of every loss: its signature, settings by position and name, repr, pickling."""

import copy
import inspect
import pickle

import numpy as np
import pytest
import torch
from public_calls import CALLS
from torch._subclasses.fake_tensor import FakeTensorMode

import contrastive_ops
from contrastive_ops.losses._module import LossModule

MODULES = {
    name: module
    for name, module in vars(contrastive_ops).items()
    if inspect.isclass(module) and issubclass(module, LossModule)
}
NAMES = [name for name in MODULES if name != "MatryoshkaLoss"]  # which wraps another module
WITH_TEMPERATURE = [name for name, module in MODULES.items() if "temperature" in inspect.signature(module).parameters]
every_module = pytest.mark.parametrize("name", NAMES)


def inputs_of(module):
    """What a call is given, by position."""
    arguments = CALLS[module.function.__name__].arguments()
    parameters = inspect.signature(module.function).parameters
    return [arguments[name] for name, parameter in parameters.items() if parameter.kind is not parameter.KEYWORD_ONLY]


@pytest.mark.parametrize("name", WITH_TEMPERATURE)
def test_the_temperature_comes_first(name):
    module = MODULES[name]
    by_position, by_name = module(0.31), module(temperature=0.31)
    assert by_position.temperature == by_name.temperature == 0.31
    assert next(iter(inspect.signature(module).parameters)) == "temperature"
    with pytest.raises(
        TypeError, match=rf"{name} takes only the temperature by position, got 2 values: name the others"
    ):
        module(0.31, "mean")
    with pytest.raises(TypeError, match=rf"{name} got two temperatures, 0.31 and 0.2"):
        module(0.31, temperature=0.2)


@pytest.mark.parametrize(
    "name", [name for name in MODULES if name not in WITH_TEMPERATURE and name != "MatryoshkaLoss"]
)
def test_without_a_temperature_all_settings_are_named(name):
    with pytest.raises(TypeError, match=rf"{name} takes settings by name, got 1 value by position, expected any of "):
        MODULES[name](0.1)


@every_module
def test_repr_shows_the_settings(name):
    module = MODULES[name]
    settings = inspect.signature(module).parameters
    shown = ", ".join(f"{setting}={parameter.default!r}" for setting, parameter in settings.items())
    assert repr(module()) == f"{name}({shown})"


def test_repr_of_settings_that_are_tensors():
    module = contrastive_ops.NTXentLoss(torch.nn.Parameter(torch.tensor(0.25)))
    assert "temperature=Parameter(0.25), reduction='mean'" in repr(module)
    queue = contrastive_ops.InfoNCELoss(negatives=torch.zeros(5, 3))
    assert "negatives=Tensor(5, 3)" in repr(queue)
    assert "negatives=Relation" in repr(contrastive_ops.ClipLoss(negatives=contrastive_ops.off_diagonal()))
    assert repr(contrastive_ops.MatryoshkaLoss(contrastive_ops.ClipLoss(), dims=(2, 4))).count("ClipLoss") == 1


def test_repr_of_settings_without_a_value():
    with torch.device("meta"):
        module = contrastive_ops.NTXentLoss(torch.nn.Parameter(torch.tensor(0.25)))
        assert "negatives=Tensor(5, 3)" in repr(contrastive_ops.InfoNCELoss(negatives=torch.zeros(5, 3)))
    assert "temperature=Parameter(meta), reduction" in repr(module)
    with FakeTensorMode():
        module = contrastive_ops.NTXentLoss(torch.nn.Parameter(torch.tensor(0.25)))
    assert "temperature=Parameter(fake), reduction" in repr(module)


@pytest.mark.parametrize("number", [np.float32(0.1), np.float64(0.1), 0.1])
def test_repr_of_numpy_numbers(number):
    assert "temperature=0.1, reduction" in repr(contrastive_ops.NTXentLoss(number))
    assert "workspace_bytes=5, " in repr(contrastive_ops.NTXentLoss(workspace_bytes=np.int64(5)))


@every_module
def test_a_pickled_module_is_the_module(name):
    module = MODULES[name]()
    inputs = inputs_of(MODULES[name])
    expected = module(*inputs)
    for other in (pickle.loads(pickle.dumps(module)), copy.deepcopy(module)):
        assert torch.equal(other(*inputs), expected) and repr(other) == repr(module)

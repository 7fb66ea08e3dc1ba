"""Ways in which people call things, each tried on every public function: a new one joins by being in `CALLS`."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from public_calls import CALLS, mapped, outcome, tensors_of, with_argument, with_integers
from torch._subclasses.fake_tensor import FakeTensorMode

import contrastive_ops
from contrastive_ops import distributed

RELATIONS = {"all_pairs", "diagonal", "different", "off_diagonal", "same"}  # make a relation and compute nothing


pytestmark = pytest.mark.usefixtures("one_rank")


def test_every_public_function_is_called():
    functions = {name for name in contrastive_ops.__all__ if name[0].islower()} - RELATIONS
    assert set(CALLS) == functions | {f"distributed.{name}" for name in distributed.__all__}


@pytest.mark.parametrize("name", with_argument("temperature"))
@pytest.mark.parametrize("value, dtype", [(0.498046875, torch.bfloat16), (1e-5, torch.float16)], ids=str)
def test_a_temperature_of_half_precision_is_inverted_in_the_statistics_dtype(name, value, dtype):
    """In its own, 1 / 0.498 is off by 0.4 % and 1 / 1e-5 is infinite."""
    temperature = torch.tensor(value, dtype=dtype)
    half, exact = (tensors_of(CALLS[name](temperature=t)) for t in (temperature, float(temperature)))
    torch.testing.assert_close(half, exact, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", with_argument("temperature"))
def test_a_temperature_of_single_precision_serves_double(name):
    """0.3 is not a float32 number: the inverse of what it is must not be rounded to one."""
    temperature = torch.tensor(0.3)
    wide = mapped(CALLS[name].arguments(), lambda x: x.detach().double() if x.is_floating_point() else x)
    single, exact = (
        tensors_of(CALLS[name].function(**wide | {"temperature": t})) for t in (temperature, float(temperature))
    )
    torch.testing.assert_close(single, exact, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", with_argument("temperature"))
@pytest.mark.parametrize("value", [0.0, -0.1, float("nan")])
def test_a_tensor_as_temperature_is_checked_like_a_float(name, value):
    for temperature in (value, torch.tensor(value), torch.tensor([value], dtype=torch.float16, requires_grad=True)):
        with pytest.raises(ValueError, match=r"temperature must be > 0, got (0|0\.0|-0\.1|-0\.09998|nan)$"):
            CALLS[name](temperature=temperature)


@pytest.mark.parametrize("name", with_integers())
def test_numpy_memory_of_ids_may_be_refilled_between_forward_and_backward(name):
    """A data loader does so. PyTorch counts the writes to its own tensors and refuses; NumPy's it does not see."""
    # where nothing is kept, backward looks at the ids again
    options = {"workspace_bytes": 0} if name in with_argument("workspace_bytes") else {}
    expected = outcome(CALLS[name], CALLS[name].arguments() | options)
    buffers = []

    def in_numpy(x):
        if x.is_floating_point():
            return x
        buffers.append(np.ascontiguousarray(x.numpy()))
        return torch.from_numpy(buffers[-1])

    def refill():
        for buffer in buffers:
            buffer.fill(0)

    found = outcome(CALLS[name], mapped(CALLS[name].arguments(), in_numpy) | options, between=refill)
    torch.testing.assert_close(found, expected)


def _strided(x):
    wide = x.new_zeros((*x.shape, 2))
    wide[..., 0] = x
    return wide[..., 0]


def _inference(x):
    with torch.inference_mode():
        return x.clone()


INTEGERS = {
    "strided": _strided,
    "int32": lambda x: x.to(torch.int32),
    "uint8": lambda x: x.to(torch.uint8),
    "inference": _inference,
    "strided_int32": lambda x: _strided(x.to(torch.int32)),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("form", INTEGERS)
@pytest.mark.parametrize("name", with_integers())
def test_integers_in_other_forms_are_the_same_numbers(name, form):
    """Labels, ids, targets and indices, as a data loader or an evaluation under `inference_mode` hands them out."""
    change = INTEGERS[form]
    arguments = mapped(
        CALLS[name].arguments(), lambda x: x if x.is_floating_point() or x.dtype == torch.bool else change(x)
    )
    torch.testing.assert_close(outcome(CALLS[name], arguments), outcome(CALLS[name], CALLS[name].arguments()))


FROZEN = ("target_image", "target_text", "teacher", "share", "log_weights", "row_bias", "col_bias", "counted")


@pytest.mark.parametrize("name, argument", [(name, x) for x in FROZEN for name in with_argument(x)])
def test_what_a_frozen_model_made_under_inference_mode_is_taken(name, argument):
    arguments = CALLS[name].arguments()
    frozen = arguments[argument].detach()
    found, expected = (outcome(CALLS[name], arguments | {argument: x}) for x in (_inference(frozen), frozen))
    torch.testing.assert_close(found, expected)


# a seed is drawn from on the device itself, and ranks exchange numbers
NEEDS_VALUES = {"gram_negatives"} | {name for name in CALLS if name.startswith("distributed.")}


@pytest.mark.parametrize("kind", ["meta", "fake"])
@pytest.mark.parametrize("name", [name for name in CALLS if name not in NEEDS_VALUES])
def test_without_values_shapes_and_dtypes_come_out(name, kind):
    """Meta tensors, as of a model that is planned, and fake ones, as of a tracer: nothing may be read."""
    arguments = CALLS[name].arguments()
    expected = tensors_of(CALLS[name].function(**arguments))
    mode = FakeTensorMode() if kind == "fake" else nullcontext()
    without_values = mapped(
        arguments, lambda x: mode.from_tensor(x.detach()) if kind == "fake" else x.detach().to("meta")
    )
    with mode:
        found = tensors_of(CALLS[name].function(**without_values))
    assert [(x.shape, x.dtype) for x in found] == [(x.shape, x.dtype) for x in expected]

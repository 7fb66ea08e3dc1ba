"""What an error says: the argument or variable by its own name, what it may be, and what to do."""

import inspect

import numpy as np
import pytest
import torch
from public_calls import CALLS, outcome

from contrastive_ops import clip_loss
from contrastive_ops.backends.cpu import native

pytestmark = pytest.mark.usefixtures("one_rank")

SCALES = ("scale", "logit_scale", "view_scale")
NUMBERS = (*SCALES, "temperature", "label_smoothing", "t", "sigma", "tau_plus", "beta", "epsilon", "floor")
WITH_SCALE, WITH_NUMBER = (
    [(name, x) for x in names for name, call in CALLS.items() if x in inspect.signature(call.function).parameters]
    for names in (SCALES, NUMBERS)
)


@pytest.mark.parametrize("name, argument", WITH_SCALE)
def test_a_scale_is_called_by_its_name(name, argument):
    for bad, words in (("3", "got str"), (torch.ones(2), r"got shape \(2,\)"), (torch.tensor(3), "got torch.int64")):
        with pytest.raises((TypeError, ValueError), match=f"^{argument} must .*{words}"):
            CALLS[name](**{argument: bad})


@pytest.mark.parametrize("name, argument", WITH_NUMBER)
def test_numpy_floats_are_floats(name, argument):
    call, value = CALLS[name], np.float32(0.25)
    arguments = call.arguments()
    if argument == "label_smoothing" and "negatives" in arguments:
        arguments["negatives"] = None  # smoothing is spread over all of them
    found, expected = (outcome(call, arguments | {argument: x}) for x in (value, float(value)))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


WITH_TEMPERATURE = [name for name, argument in WITH_NUMBER if argument == "temperature"]


@pytest.mark.parametrize("name", WITH_TEMPERATURE)
@pytest.mark.parametrize("number", [1e-45, 1e-320, np.float64(1e-320)])
def test_a_temperature_without_an_inverse_is_refused(name, number):
    with pytest.raises(
        ValueError, match=r"^temperature must be at least 2.939e-39 for statistics in torch.float32, got 1e-"
    ):
        CALLS[name](temperature=number)


INTEGERS = {"iterations": 2, "ignore_index": 2, "workspace_bytes": 4096, "group_size": 1, "max_positives": 3, "k": 2}
WITH_INTEGER = [
    (name, x)
    for name, call in CALLS.items()
    for x in INTEGERS
    if x in inspect.signature(call.function).parameters and not (name.startswith("distributed") and x == "group_size")
]


@pytest.mark.parametrize("name, argument", WITH_INTEGER)
def test_numpy_integers_are_integers(name, argument):
    call, value = CALLS[name], INTEGERS[argument]
    found, expected = [], []
    for results, number in ((found, np.int64(value)), (expected, value)):
        torch.manual_seed(0)  # shuffled groups
        results.append(outcome(call, call.arguments() | {argument: number}))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", [name for name, argument in WITH_INTEGER if argument == "ignore_index"])
def test_an_ignored_label_has_64_bits(name):
    for bad in (2**70, -(2**63) - 1):
        with pytest.raises(ValueError, match=f"^ignore_index must fit into 64 bits, got {bad}"):
            CALLS[name](ignore_index=bad)


@pytest.mark.parametrize("set_to, expected", [("", None), ("BaseLine", "baseline"), (" baseline ", "baseline")])
def test_the_instruction_set_in_any_case(set_to, expected, monkeypatch):
    monkeypatch.setenv("CONTRASTIVE_OPS_CPU_ISA", set_to)
    chosen = native.kernels.__wrapped__().name
    assert chosen == expected if expected else chosen == native.extension.kernels(None).name


def test_an_unknown_instruction_set_is_refused_with_the_choices(monkeypatch):
    monkeypatch.setenv("CONTRASTIVE_OPS_CPU_ISA", "bogus")
    with pytest.raises(ValueError, match=r"CONTRASTIVE_OPS_CPU_ISA must be .*baseline.* or unset.*got 'bogus'"):
        native.kernels.__wrapped__()


def test_out_of_memory_says_how_much_and_what_to_lower(monkeypatch):
    def exhausted(size):
        raise MemoryError("std::bad_alloc")

    monkeypatch.setattr(native.extension, "Block", exhausted)
    x = torch.randn(600, 8, requires_grad=True)
    with pytest.raises(MemoryError, match=r"could not allocate \d{6,} bytes: lower workspace_bytes"):
        clip_loss(x, x.detach(), 2.0, workspace_bytes=1_000_000, backend="cpu")


def test_a_named_backend_is_the_one_that_cannot():
    x = torch.randn(3, 4, device="meta")
    with pytest.raises(ValueError, match=r"^backend 'cpu' cannot solve this problem: tensors must be on the CPU"):
        clip_loss(x, x, 1.0, backend="cpu")

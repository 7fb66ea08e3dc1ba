"""Every public function where saved tensors are not simply kept: recomputed by checkpointing without reentrance, as
FSDP does it, or packed and unpacked by hooks. Values and gradients are the same, bit by bit."""

import pytest
import torch
from pair_calls import CALLS, alone, pairs, seeded
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.utils.checkpoint import checkpoint

every_call = pytest.mark.parametrize("name", CALLS)


@pytest.fixture(autouse=True, scope="module")
def group():
    with alone():
        yield


class AsModule(torch.nn.Module):
    def __init__(self, call):
        super().__init__()
        self.call = call

    def forward(self, x, y):
        return self.call(x, y)


def value_and_gradients(call, **options):
    leaves = [value.requires_grad_() for value in pairs()]
    value = call(*leaves)
    return value, *torch.autograd.grad(value, leaves, allow_unused=True, **options)


@every_call
def test_recomputed(name):
    call = seeded(CALLS[name])
    expected = value_and_gradients(call)
    for recomputed in (
        lambda x, y: checkpoint(call, x, y, use_reentrant=False),
        checkpoint_wrapper(AsModule(call)),
    ):
        torch.testing.assert_close(value_and_gradients(recomputed), expected, rtol=0, atol=0)


@every_call
def test_packed_and_unpacked(name):
    """Each saved tensor is unpacked once and may be another object then, with other memory."""
    call = seeded(CALLS[name])
    expected = value_and_gradients(call)
    unpacked = []

    def unpack(packed):
        unpacked.append(id(packed))
        return packed[0].clone()

    def hooked(x, y):
        with torch.autograd.graph.saved_tensors_hooks(lambda tensor: [tensor.detach().clone()], unpack):
            return call(x, y)

    torch.testing.assert_close(value_and_gradients(hooked), expected, rtol=0, atol=0)
    assert len(unpacked) == len(set(unpacked))


@every_call
def test_a_second_derivative_under_a_checkpoint(name):
    """As without it: a derivative where there is one, or our own message."""
    call, (_, direction) = seeded(CALLS[name]), pairs(seed=1)

    def second(call):
        leaf, y = pairs()
        leaf.requires_grad_()
        value = call(leaf, y) + 0 * leaf.square().sum()
        (grad,) = torch.autograd.grad(value, leaf, create_graph=True)
        try:
            return torch.autograd.grad((grad * direction).sum(), leaf)[0]
        except RuntimeError as error:
            return str(error)

    expected, found = second(call), second(lambda x, y: checkpoint(call, x, y, use_reentrant=False))
    if isinstance(expected, str):
        assert "once_differentiable" in expected
        assert found == expected
    else:
        torch.testing.assert_close(found, expected)

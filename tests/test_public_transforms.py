"""Forward mode and `torch.func` on every public function: the right derivative or our message, never another number.

The truth is reverse mode, which other tests hold to the formulas. A loss of PyTorch's own operators alone has all
derivatives that they have.
"""

import re

import pytest
import torch
from pair_calls import CALLS, NO_GRADIENT, alone, pairs, seeded
from torch.autograd import forward_ad

import contrastive_ops

OURS = r"contrastive_ops .* got (forward mode|vmap|a trace) \(.*\), expected"
SECOND = "once_differentiable"
every_call = pytest.mark.parametrize("name", CALLS)


@pytest.fixture(autouse=True, scope="module")
def group():
    with alone():
        yield


def reverse(call, x, y):
    """Gradients in both inputs."""
    leaves = [value.clone().requires_grad_() for value in (x, y)]
    return torch.autograd.grad(call(*leaves), leaves, allow_unused=True, materialize_grads=True)


def along(gradient, direction):
    return (gradient * direction).sum()


def dual(call, x, y, dx):
    with forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(call(forward_ad.make_dual(x, dx), y)).tangent
        return torch.zeros(()) if tangent is None else tangent


def dual_leaf(call, x, y, dx):
    """A leaf of reverse mode at the same time."""
    return dual(call, x.clone().requires_grad_(), y, dx)


def dual_without_grad(call, x, y, dx):
    with torch.no_grad():
        return dual(call, x, y, dx)


FORWARD_MODES = {
    "jvp": lambda call, x, y, dx: torch.func.jvp(lambda x: call(x, y), (x,), (dx,))[1],
    "jacfwd": lambda call, x, y, dx: along(torch.func.jacfwd(lambda x: call(x, y), randomness="same")(x), dx),
    "linearize": lambda call, x, y, dx: torch.func.linearize(lambda x: call(x, y), x)[1](dx),
    "dual": dual,
    "dual leaf": dual_leaf,
    "dual without grad": dual_without_grad,
}


def right_or_refused(derivative, truth):
    try:
        found = derivative()
    except RuntimeError as error:
        assert re.search(OURS, str(error)), error
    else:
        torch.testing.assert_close(found, truth, rtol=1e-9, atol=1e-9, check_dtype=False)


@every_call
@pytest.mark.parametrize("argument", ["first", "second"])
def test_forward_mode(name, argument):
    call, (x, y), (direction, _) = seeded(CALLS[name]), pairs(), pairs(seed=1)
    dx, dy = reverse(call, x, y)
    if argument == "first":
        function, value, truth = call, x, along(dx, direction)
    else:
        function, value, truth, y = (lambda y, x: call(x, y)), y, along(dy, direction), x
    for mode in FORWARD_MODES.values():
        right_or_refused(lambda mode=mode: mode(function, value, y, direction), truth)


@every_call
def test_reverse_mode(name):
    """`torch.func.grad`, `vjp` and a gradient of one argument beside leaves of autograd."""
    call, (x, y) = seeded(CALLS[name]), pairs()
    expected = reverse(call, x, y)
    torch.testing.assert_close(torch.func.grad(call, argnums=(0, 1))(x, y), expected)
    value, pullback = torch.func.vjp(call, x, y)
    torch.testing.assert_close(value, call(x, y))
    torch.testing.assert_close(pullback(torch.full_like(value, 2.0)), tuple(2 * grad for grad in expected))
    leaf = y.clone().requires_grad_()
    value, pullback = torch.func.vjp(lambda x: call(x, leaf), x)
    torch.testing.assert_close(pullback(torch.ones_like(value))[0], expected[0])
    if value.requires_grad:
        torch.testing.assert_close(torch.autograd.grad(value, leaf)[0], expected[1])
    else:
        assert not expected[1].any()


@every_call
def test_many_at_once(name):
    """`vmap` of values, of gradients (`jacrev`) and of upstream gradients."""
    call, (x, y) = seeded(CALLS[name]), pairs()
    stack, truth = torch.stack((x, 2 * x)), reverse(call, x, y)[0]
    right_or_refused(
        lambda: torch.func.vmap(lambda x: call(x, y), randomness="same")(stack),
        torch.stack([call(x, y) for x in stack]),
    )
    right_or_refused(
        lambda: torch.func.vmap(torch.func.grad(call), in_dims=(0, None), randomness="same")(stack, y),
        torch.stack([reverse(call, x, y)[0] for x in stack]),
    )
    right_or_refused(lambda: torch.func.jacrev(call)(x, y), truth)

    def batched():
        leaf = x.clone().requires_grad_()
        upstream = torch.tensor([1.0, 3.0], dtype=x.dtype)
        (found,) = torch.autograd.grad(call(leaf, y) + 0 * leaf.sum(), leaf, upstream, is_grads_batched=True)
        return found

    right_or_refused(batched, torch.stack((truth, 3 * truth)))


@every_call
def test_second_derivatives(name):
    """Of reverse mode by either, and of an upstream gradient with a tangent."""
    call, (x, y), (direction, _) = seeded(CALLS[name]), pairs(), pairs(seed=1)

    def of_autograd():
        leaf = x.clone().requires_grad_()
        (grad,) = torch.autograd.grad(call(leaf, y) + 0 * leaf.square().sum(), leaf, create_graph=True)
        return torch.autograd.grad(along(grad, direction), leaf)[0]

    try:
        truth = of_autograd()
    except RuntimeError as error:
        assert re.search(SECOND, str(error)), error
        truth = None
    for attempt in (
        lambda: torch.func.grad(lambda x: along(torch.func.grad(call)(x, y), direction))(x),
        lambda: torch.func.jvp(torch.func.grad(call), (x, y), (direction, torch.zeros_like(y)))[1],
    ):
        try:
            found = attempt()
        except RuntimeError as error:
            assert re.search(f"{SECOND}|{OURS}", str(error)), error
        else:
            torch.testing.assert_close(found, truth)
    _, pullback = torch.func.vjp(lambda x: call(x, y), x)
    one = torch.ones((), dtype=x.dtype)
    right_or_refused(
        lambda: torch.func.jvp(lambda up: pullback(up)[0], (one,), (3 * one,))[1], 3 * reverse(call, x, y)[0]
    )


@pytest.mark.parametrize("name", NO_GRADIENT)
def test_what_has_no_gradient(name):
    call, (x, y) = NO_GRADIENT[name], pairs()
    with pytest.raises(RuntimeError, match=OURS):
        torch.func.jvp(lambda x: call(x, y)[0], (x,), (x,))
    with pytest.raises(RuntimeError, match=OURS):
        torch.func.vmap(lambda x: call(x, y)[0])(torch.stack((x, y)))
    found = torch.func.grad(lambda x: call(x, y)[1].to(x.dtype).sum() * x.sum())(x)
    torch.testing.assert_close(found, torch.full_like(x, call(x, y)[1].sum()))


def test_every_backend(backend):
    """What a backend does is inside the operators, and its gradients with them."""
    x, y = pairs(dtype=torch.float32)

    def loss(x, y):
        return contrastive_ops.clip_loss(x, y, 3.0, backend=backend) + contrastive_ops.info_nce(x, y, backend=backend)

    torch.testing.assert_close(torch.func.grad(loss, argnums=(0, 1))(x, y), reverse(loss, x, y))
    right_or_refused(lambda: torch.func.jvp(loss, (x, y), (y, x))[1], None)
    right_or_refused(lambda: torch.func.vmap(loss)(torch.stack((x, y)), torch.stack((y, x))), None)

"""clip_loss beside everything it is compared with, checked first."""

from __future__ import annotations

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from bench.clip_truth import Truth, clip_truth
from bench.cpu.contestants import MODES, Inputs, clip_contestants
from bench.cpu.suite import MEMORY_LIMIT
from bench.cpu.truth import refuse_wrong
from bench.shapes import Shape
from contrastive_ops.testing import dense_clip_loss


@pytest.fixture(scope="module")
def inputs(shape: Shape) -> Inputs:
    torch._dynamo.reset()  # the compiler gives up on a function after a few shapes
    return Inputs.make(shape)


@pytest.fixture(scope="module")
def truth(inputs: Inputs) -> Truth:
    return clip_truth(inputs.x, inputs.y, inputs.scale)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", list(clip_contestants()))
def test_clip_contestant(
    benchmark: BenchmarkFixture,
    shape: Shape,
    inputs: Inputs,
    truth: Truth,
    name: str,
    mode: str,
    loss_backend: str | None,
) -> None:
    contestant = clip_contestants(loss_backend)[name]
    if mode not in contestant.modes:
        pytest.skip("the budget is of no consequence in forward")
    if contestant.peak_bytes(shape) > MEMORY_LIMIT:
        pytest.skip(f"needs about {contestant.peak_bytes(shape) / 2**30:.0f} GiB")
    if contestant.make_loss is not None:
        refuse_wrong(name, contestant.make_loss(), inputs, truth)
    benchmark.group = f"clip_loss {shape} {mode}"
    # rounds follow the size; the setup makes every step allocate its gradients, as in training
    rounds = max(3, min(50, int(4e10 / (shape.n**2 * shape.d))))
    benchmark.pedantic(contestant.make_step(inputs, mode), setup=inputs.restart, rounds=rounds, warmup_rounds=1)


def test_truth_is_the_dense_loss() -> None:
    """The blocked float64 truth against autograd of the stored logits, over more rows than a block."""
    inputs = Inputs.make(Shape(700, 24))
    truth = clip_truth(inputs.x, inputs.y, inputs.scale)
    leaves = [leaf.detach().double().requires_grad_() for leaf in (inputs.x, inputs.y, inputs.scale)]
    loss = dense_clip_loss(*leaves)
    for got, expected in zip(truth, (loss, *torch.autograd.grad(loss, leaves)), strict=True):
        torch.testing.assert_close(got, expected.detach(), rtol=1e-10, atol=1e-15)

"""DistributedDataParallel, FSDP and the gradient cache give every parameter the gradient of one process."""

import pytest
import torch
from distributed_losses import UNEVEN_GROUPS
from distributed_trainers import STRATEGIES, TwoTowers, batch_of, gradients, run

from contrastive_ops import clip_loss, distributed

WORLDS = (3,)


@pytest.fixture(scope="module")
def results(ranks_of):
    return lambda world: ranks_of(run, world)


def of_one_process(world, strategy):
    """(loss, gradients) of the whole batch, under "grouped" with candidates of the own group alone."""
    groups = UNEVEN_GROUPS[world] if strategy == "grouped" else [list(range(world))]
    model = TwoTowers()
    total, count = 0.0, 0
    for members in groups:
        images, texts = batch_of(world, members)
        total = total + clip_loss(*model(images, texts), label_smoothing=0.1, reduction="sum")
        count += len(images)
    value = total / count
    value.backward()
    return value.detach(), gradients(model)


def assert_equal_gradients(got, expected):
    assert got.keys() == expected.keys()
    for name, truth in expected.items():
        assert (got[name] - truth).norm() <= 2e-6 * truth.norm(), name


TRAINERS = [("ddp", strategy) for strategy in STRATEGIES] + [("fsdp", "gather"), ("fsdp", "ring")]
TRAINERS += [("cached_fsdp", "ring")] + [("cached", strategy) for strategy in STRATEGIES]


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("trainer, strategy", TRAINERS)
def test_parameters_get_the_gradient_of_one_process(trainer, strategy, world, results):
    value, expected = of_one_process(world, strategy)
    for found in results(world):
        assert_equal_gradients(found[f"{trainer}-{strategy}"], expected)
        if trainer == "cached":
            assert found[f"reductions-{strategy}"] == 1
            torch.testing.assert_close(found[f"value-{strategy}"], value, rtol=1e-6, atol=0)


@pytest.mark.parametrize("world", WORLDS)
def test_cache_encodes_twice_with_the_same_random_numbers(world, results):
    for found in results(world):
        (got, next_number), (expected, next_expected) = found["dropout"]
        assert_equal_gradients(got, expected)
        assert torch.equal(next_number, next_expected)


def test_cache_in_one_process():
    """Any loss and encoder; an output that is frozen, and a loss that uses a parameter of its own."""
    model, scale = TwoTowers(), torch.tensor(3.0, requires_grad=True)
    model.text.requires_grad_(False)
    images, texts = batch_of(2, [0, 1])
    batches = [{"images": i, "texts": t} for i, t in zip(images.split(5), texts.split(5), strict=True)]
    needed = []

    def loss(image, text, _):
        needed.append((image.requires_grad, text.requires_grad))
        return clip_loss(image, text, scale)

    value = distributed.cached_loss(model, batches, loss)
    got = [model.image.weight.grad, scale.grad]
    assert needed == [(True, False)] and model.text.weight.grad is None
    assert not value.requires_grad
    expected_value = clip_loss(*model(images, texts)[:2], scale)
    torch.testing.assert_close(value, expected_value)
    for gradient, truth in zip(got, torch.autograd.grad(expected_value, [model.image.weight, scale]), strict=True):
        torch.testing.assert_close(gradient, truth)


def test_cache_needs_a_micro_batch():
    with pytest.raises(ValueError, match="at least one micro-batch, got none"):
        distributed.cached_loss(TwoTowers(), [], clip_loss)

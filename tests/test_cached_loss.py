"""cached_loss in one process: whatever a model returns, the gradients are those of the whole batch."""

import itertools

import pytest
import torch
from torch import nn

from contrastive_ops import clip_loss
from contrastive_ops.distributed import cached_loss


class Towers(nn.Module):
    """Two towers and a scale of a given shape; `present` makes of the three what the model returns."""

    def __init__(self, present, scale_shape):
        super().__init__()
        self.image, self.text = nn.Linear(6, 4, bias=False), nn.Linear(5, 4, bias=False)
        self.scale = nn.Parameter(torch.full(scale_shape, 3.0))
        self.present = present

    def forward(self, images, texts):
        return self.present(self.image(images), self.text(texts), self.scale)


def as_dict(image, text, scale):
    return {"image_features": image, "text_features": text, "logit_scale": scale}


PRESENT = {"tuple": lambda *outputs: outputs, "list": lambda *outputs: list(outputs), "dict": as_dict}


# all of one item with a scale that is not 0-dim are refused below
SCALES_AND_PIECES = [((), (1,) * 10), *itertools.product([(), (1,), (1, 1)], [(5, 5), (1, 4, 5), (10,)])]


@pytest.mark.parametrize("scale_shape, pieces", SCALES_AND_PIECES, ids=str)
@pytest.mark.parametrize("present", PRESENT)
def test_equals_the_whole_batch(present, scale_shape, pieces):
    model = Towers(PRESENT[present], scale_shape)
    images, texts = torch.randn(10, 6), torch.randn(10, 5)
    value = cached_loss(model, list(zip(images.split(pieces), texts.split(pieces), strict=True)), clip_loss)
    found = [parameter.grad for parameter in model.parameters()]
    expected = clip_loss(model.image(images), model.text(texts), model.scale)
    torch.testing.assert_close(value, expected.detach())
    torch.testing.assert_close(found, list(torch.autograd.grad(expected, list(model.parameters()))))


@pytest.mark.parametrize(
    "present, words",
    [
        (lambda image, text, scale: (image, text, None), "output 2 a NoneType"),
        (lambda image, text, scale: {"image_features": image, "hidden": [text]}, "output 'hidden' a list"),
        (lambda image, text, scale: None, "output 0 a NoneType"),
    ],
)
def test_outputs_that_are_no_tensors_are_named(present, words):
    with pytest.raises(TypeError, match=f"encode must return tensors.*{words}"):
        cached_loss(Towers(present, ()), [(torch.randn(3, 6), torch.randn(3, 5))], clip_loss)


class Weighted(nn.Module):
    """Embeddings and one weight an item; `outputs` picks and orders them by the number of the call."""

    def __init__(self, outputs=lambda call, every: every):
        super().__init__()
        self.queries, self.keys, self.w = nn.Linear(6, 5), nn.Linear(6, 5), nn.Linear(6, 1)
        self.outputs, self.calls = outputs, 0

    def forward(self, x):
        self.calls += 1
        every = {"queries": self.queries(x), "keys": self.keys(x), "w": self.w(x).squeeze(1)}
        return self.outputs(self.calls, every)


def weighted_loss(queries, keys, w):
    assert queries.shape[0] == w.shape[0]
    return ((queries - 2 * keys.roll(1, 0)).square().sum(1) * w).sum()


@pytest.mark.parametrize("reversed_in", [(2,), (4,), (1, 4), (2, 3)], ids=str)
def test_outputs_are_matched_by_name(reversed_in):
    """Calls 1 and 2 are without a graph, 3 and 4 encode the same micro-batches again."""
    model = Weighted(lambda call, every: dict(reversed(every.items())) if call in reversed_in else every)
    x = torch.randn(6, 6)
    value = cached_loss(model, x.split(3), weighted_loss)
    found = [parameter.grad for parameter in model.parameters()]
    expected = weighted_loss(**Weighted.forward(model, x))
    torch.testing.assert_close(value, expected.detach())
    torch.testing.assert_close(found, list(torch.autograd.grad(expected, list(model.parameters()))))


@pytest.mark.parametrize("call", [2, 3, 4])
@pytest.mark.parametrize("change, words", [("missing", "lacks 'w'"), ("additional", "has 'extra' more")])
def test_a_missing_or_additional_output_is_named(call, change, words):
    def outputs(now, every):
        if now == call:
            every = (
                every | {"extra": every["w"]} if change == "additional" else {k: every[k] for k in ("queries", "keys")}
            )
        return every

    with pytest.raises(
        ValueError, match=f"encode must return the same outputs.*micro-batch {1 + (call - 1) % 2} {words}"
    ):
        cached_loss(Weighted(outputs), torch.randn(6, 6).split(3), weighted_loss)


def test_a_tuple_of_another_length_is_refused():
    def outputs(call, every):
        return tuple(every.values())[:call]

    with pytest.raises(ValueError, match="micro-batch 2 has output 1 more"):
        cached_loss(Weighted(outputs), torch.randn(6, 6).split(3), lambda queries: queries.sum())


@pytest.mark.parametrize("pieces", [(3, 3), (1, 5), (1, 1, 4), (6,)], ids=str)
def test_one_number_an_item(pieces):
    model = Weighted()
    x = torch.randn(6, 6)
    value = cached_loss(model, x.split(pieces), weighted_loss)
    torch.testing.assert_close(value, weighted_loss(**model(x)).detach())


@pytest.mark.parametrize("shape", [(1,), (1, 1)], ids=str)
def test_one_number_in_micro_batches_of_one_item_is_ambiguous(shape):
    def outputs(call, every):
        return every | {"w": every["w"].reshape(shape)}

    with pytest.raises(ValueError, match=r"output 'w'.*0-dim.*shared.*more than one item"):
        cached_loss(Weighted(outputs), torch.randn(3, 6).split(1), weighted_loss)
    cached_loss(Weighted(outputs), torch.randn(1, 6).split(1), weighted_loss)  # one micro-batch: the same either way


def test_the_only_output_is_one_of_items():
    model = nn.Linear(6, 1)
    x = torch.randn(4, 6)
    value = cached_loss(model, x.split(1), lambda features: features.square().sum())
    torch.testing.assert_close(value, model(x).square().sum().detach())

"""cached_loss in one process: whatever a model returns, the gradients are those of the whole batch."""

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


@pytest.mark.parametrize("pieces", [(5, 5), (1, 4, 5), (10,), (1,) * 10], ids=str)
@pytest.mark.parametrize("scale_shape", [(), (1,), (1, 1)], ids=str)
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

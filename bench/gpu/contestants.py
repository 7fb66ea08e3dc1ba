"""What clip_loss is compared with on a GPU: functions of images, texts and scale."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastive_ops import clip_loss
from contrastive_ops.testing import dense_clip_loss

TEMPERATURE = 0.07  # where CLIP starts

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


class Contestant(NamedTuple):
    make: Callable[[], Loss]  # raises ImportError or AttributeError where it is not installed
    stored_scores: float = 0.0  # N x N matrices of the inputs' dtype that it holds at its peak, to skip what cannot fit
    same_loss: bool = True
    note: str = ""
    backend: str | None = None  # of ours


def ours(backend: str) -> Contestant:
    return Contestant(lambda: lambda x, y, scale: clip_loss(x, y, scale, backend=backend), backend=backend)


# --- the others ---


def _compiled() -> Loss:
    torch._dynamo.reset()  # its cache limit counts shapes
    return torch.compile(dense_clip_loss, dynamic=False)


def _linear_cross_entropy() -> Loss:
    options = torch.nn.LinearCrossEntropyOptions()

    def loss(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
        target = torch.arange(x.shape[0], device=x.device)
        scaled = scale.to(x.dtype) * x
        forth = F.linear_cross_entropy(scaled, y, target, options=options)
        return 0.5 * (forth + F.linear_cross_entropy(y, scaled, target, options=options))

    return loss


def _memeff() -> Loss:
    # stable=True, its default, would scale the gradient by sqrt(batch * temperature)
    module: Any = import_module("memeff").MemoryEfficientCLIPLoss(
        temperature=TEMPERATURE, normalized_inputs=True, stable=False
    )
    return lambda x, y, scale: module(x, y)


def _inf_cl() -> Loss:
    flash: Any = import_module("inf_cl").cal_flash_loss
    return lambda x, y, scale: 0.5 * (flash(x, y, scale=scale) + flash(y, x, scale=scale)).mean()


def _siglip() -> Loss:
    fused: Any = import_module("siglip_kernel").fused_siglip_loss

    def loss(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
        return fused(x, y, scale.log(), scale.new_tensor(-10.0).requires_grad_())

    return loss


CONTESTANTS = {
    "ours, cuda": ours("cuda"),
    "ours, triton": ours("triton"),
    "ours, eager": ours("eager"),
    "dense eager": Contestant(lambda: dense_clip_loss, 5.0),
    "torch.compile": Contestant(_compiled, 3.0),
    "linear_cross_entropy x2": Contestant(_linear_cross_entropy),
    "memeff": Contestant(_memeff, note="no gradient of the scale"),
    "inf_cl x2": Contestant(_inf_cl, note="computes in float32"),
    "siglip_kernel": Contestant(_siglip, same_loss=False, note="another loss (sigmoid), for orientation"),
}

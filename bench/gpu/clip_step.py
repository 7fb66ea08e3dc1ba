"""A training step of the symmetric CLIP loss, whoever computes it, and whether it is right."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.clip_truth import Truth, clip_truth
from bench.gpu.contestants import TEMPERATURE, Loss
from bench.gpu.verdict import compare, size_of_scale_gradient

DENSE_ERROR = 1e-5  # more than dense float32 is ever off by here; measuring it would store the scores


class ClipStep:
    """Calling it does forward and backward once: the loss and its gradients, allocated anew as in training."""

    def __init__(self, loss: Loss, n: int, d: int, dtype: torch.dtype, device: torch.device) -> None:
        self.loss, self.sizes, self.dtype, self.device = loss, (n, d), dtype, device
        self.leaves = [leaf.detach().requires_grad_() for leaf in _inputs(n, d, dtype, device)]

    def __call__(self) -> list[Tensor | None]:
        loss = self.loss(*self.leaves)
        # not backward(): the nodes that fill .grad remember streams, which a capture must not meet
        return [loss.detach(), *torch.autograd.grad(loss, self.leaves, allow_unused=True)]

    def forward(self) -> Tensor:
        with torch.no_grad():
            return self.loss(*self.leaves)

    def judge(self, backend: str) -> dict[str, Any]:
        """Errors of one step beside their bounds, and the verdict."""
        truth = _truth(*self.sizes, self.dtype, self.device)._asdict()
        found = dict(zip(truth, self(), strict=True))
        sizes = {"dscale": size_of_scale_gradient(self.leaves[0], truth["dx"], self.leaves[2])}
        return compare(found, truth, backend, dict.fromkeys(found, DENSE_ERROR), sizes)

    def error_of_loss(self) -> float:
        true, (loss, *_) = _truth(*self.sizes, self.dtype, self.device).loss, self()
        assert loss is not None
        return float(((loss.double() - true) / true).abs())


@lru_cache(maxsize=1)  # contestants come one after another at one size
def _inputs(n: int, d: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """As `make_pairs`, which takes seconds for large batches, on the device."""
    generator = torch.Generator(device).manual_seed(0)
    shared, first, second = torch.randn(3, n, d, generator=generator, device=device).unbind(0)
    x, y = (F.normalize(shared + own, dim=-1).to(dtype) for own in (first, second))
    return x, y, torch.tensor(1 / TEMPERATURE, device=device)


@lru_cache(maxsize=1)
def _truth(n: int, d: int, dtype: torch.dtype, device: torch.device) -> Truth:
    return clip_truth(*_inputs(n, d, dtype, device))

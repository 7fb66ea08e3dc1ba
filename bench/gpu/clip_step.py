"""A training step of the symmetric CLIP loss, whoever computes it, and whether it is right."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from bench.clip_truth import Truth, clip_truth
from bench.gpu.contestants import TEMPERATURE, Loss
from bench.gpu.verdict import compare
from contrastive_ops.testing import make_pairs

DENSE_ERROR = 1e-5  # more than dense float32 is ever off by here; measuring it would store the scores


class ClipStep:
    """Calling it does forward and backward once; the gradients are allocated anew, as in training."""

    def __init__(self, loss: Loss, n: int, d: int, dtype: torch.dtype, device: torch.device) -> None:
        self.loss, self.sizes, self.dtype, self.device = loss, (n, d), dtype, device
        self.x, self.y, self.scale = (leaf.detach().requires_grad_() for leaf in _inputs(n, d, dtype, device))

    def __call__(self) -> Tensor:
        self.restart()
        loss = self.loss(self.x, self.y, self.scale)
        loss.backward()
        return loss.detach()

    def forward(self) -> Tensor:
        with torch.no_grad():
            return self.loss(self.x, self.y, self.scale)

    def restart(self) -> None:
        self.x.grad = self.y.grad = self.scale.grad = None

    def judge(self, backend: str) -> dict[str, Any]:
        """Errors of one step beside their bounds, and the verdict."""
        found = {"loss": self(), "dx": self.x.grad, "dy": self.y.grad, "dscale": self.scale.grad}
        truth = _truth(*self.sizes, self.dtype, self.device)._asdict()
        return compare(found, truth, backend, dict.fromkeys(found, DENSE_ERROR))

    def agrees(self, loss: Tensor) -> float:
        """Relative error of a loss alone."""
        true = _truth(*self.sizes, self.dtype, self.device).loss
        return float(((loss.double() - true) / true).abs())


@lru_cache(maxsize=1)  # contestants come one after another at one size
def _inputs(n: int, d: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    x, y = (value.to(device) for value in make_pairs(n, d, dtype))
    return x, y, torch.tensor(1 / TEMPERATURE, device=device)


@lru_cache(maxsize=1)
def _truth(n: int, d: int, dtype: torch.dtype, device: torch.device) -> Truth:
    return clip_truth(*_inputs(n, d, dtype, device))

"""One number for how far a result is from its truth."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def norm_error(value: Tensor, truth: Tensor, size: Tensor | None = None) -> float:
    """|value - truth| / |truth| over the finite entries; infinite entries must agree, and so must a zero truth.

    `size`: the size of the terms of each entry (or row), which counts where it is larger than the truth.
    """
    value, truth = value.detach().double(), truth.detach().double()
    if value.shape != truth.shape or not torch.equal(value.isinf() * value.sign(), truth.isinf() * truth.sign()):
        return math.inf
    finite = truth.isfinite()
    difference, norm = (value - truth)[finite].norm().item(), truth[finite].norm().item()
    if size is not None:
        norm = max(norm, size.double().norm().item())
    if difference == 0.0:
        return 0.0
    return difference / norm if norm else math.inf


def worst_row_error(value: Tensor, truth: Tensor, size: Tensor | None = None) -> float:
    """The largest |value_i - truth_i| / |truth_i| over rows (last dimension); a zero row must be exactly zero."""
    value, truth = value.detach().double(), truth.detach().double()
    difference, norm = (value - truth).norm(dim=-1), truth.norm(dim=-1)
    if size is not None:
        norm = norm.maximum(size.double())
    relative = torch.where(difference == 0.0, 0.0, difference / norm)
    return relative.max().item() if relative.numel() else 0.0

"""Embeddings as they are halfway through training and at its end."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def make_pairs(n: int, d: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> tuple[Tensor, Tensor]:
    """L2-normalised (images, texts), each `[n, d]`; matching rows are correlated, as halfway through training."""
    generator = torch.Generator().manual_seed(seed)
    shared, first, second = torch.randn(3, n, d, generator=generator).unbind(0)
    images, texts = (F.normalize(shared + own, dim=-1).to(dtype) for own in (first, second))
    return images, texts


def make_confident_pairs(n: int, d: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Pairs as after memorisation: at scale 100 every pair's loss lies between 1e-9 and 1e-3 (for n = 600, d = 512)."""
    generator = torch.Generator().manual_seed(seed)
    anchors, noise = torch.randn(2, n, d, generator=generator, dtype=torch.float64).unbind(0)
    images = F.normalize(anchors, dim=-1)
    across = F.normalize(noise - (noise * images).sum(1, keepdim=True) * images, dim=-1)
    # random directions have scores of variance 100^2 / d, so their LSE is about this; the margin above it is -log loss
    lse_negatives = math.log(n) + 0.5 * 100.0**2 / d
    margin = torch.linspace(10.0, 17.0, n, dtype=torch.float64)[:, None]
    cosine = (lse_negatives + margin) / 100.0
    texts = cosine * images + (1 - cosine**2).sqrt() * across
    return images.to(dtype), texts.to(dtype)

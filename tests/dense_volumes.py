"""Volumes as they are written down: the Gram matrix of every tuple, stored, and its determinant."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def dense_volumes(anchor: Tensor, modalities: Sequence[Tensor]) -> Tensor:
    """V_ij = sqrt(|det Gram(a_i, x^1_j, ..., x^K_j)|), `[.., M, N]`."""
    m, n, d = anchor.shape[-2], modalities[0].shape[-2], anchor.shape[-1]
    batch = anchor.shape[:-2]
    vectors = [anchor.unsqueeze(-2).expand(*batch, m, n, d)]
    vectors += [modality.unsqueeze(-3).expand(*batch, m, n, d) for modality in modalities]
    stacked = torch.stack(vectors, -2)
    return torch.linalg.det(stacked @ stacked.mT).abs().sqrt()

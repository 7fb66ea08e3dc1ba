"""Matryoshka: a loss over prefixes of the embeddings (Kusupati et al. 2022, arXiv 2205.13147)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from contrastive_ops.check import check_embeddings
from contrastive_ops.losses._module import LossModule


def matryoshka(
    loss: Callable[..., Tensor],
    *embeddings: Tensor,
    dims: Sequence[int] = (),
    weights: Sequence[float] | None = None,
    normalize: bool = True,
    **others: Any,
) -> Tensor:
    """sum_d weight_d * loss(embeddings cut to their first d features)

    Args:
        loss: a function or module of this library, or any other.
        embeddings: tensors `[..., D]`, cut for every d and given to the loss by position.
        dims: the prefixes, each in [1, D].
        weights: one for each prefix; None for 1.
        normalize: whether the cut embeddings are L2-normalised, as a loss on cosines needs.
        others: given to the loss by name, uncut: `labels=`, `logit_scale=`.

    Returns:
        What the loss returns. One call of the loss for each prefix: sum(dims) / D of its products.
    """
    if len(dims) == 0 or len(embeddings) == 0:
        raise ValueError(f"expected embeddings and dims, got {len(embeddings)} embeddings and dims={tuple(dims)}")
    weights = (1.0,) * len(dims) if weights is None else weights
    if len(weights) != len(dims):
        raise ValueError(f"expected a weight for each of {len(dims)} dims, got {len(weights)}")
    for value in embeddings:
        check_embeddings("every embedding", value)
        if not all(1 <= d <= value.shape[-1] for d in dims):
            raise ValueError(f"dims must lie in [1, D={value.shape[-1]}], got {tuple(dims)}")

    def cut(value: Tensor, d: int) -> Tensor:
        prefix = value[..., :d]
        return F.normalize(prefix, dim=-1) if normalize else prefix

    parts = [w * loss(*(cut(x, d) for x in embeddings), **others) for d, w in zip(dims, weights, strict=True)]
    return sum(parts[1:], start=parts[0])


class MatryoshkaLoss(LossModule):
    """`matryoshka` around a module: `MatryoshkaLoss(ClipLoss(), dims=(64, 256))(image, text, logit_scale=14.0)`."""

    function = staticmethod(matryoshka)

    def __init__(self, loss: Callable[..., Tensor], **settings: Any) -> None:
        super().__init__(**settings)
        self.loss = loss

    def forward(self, *embeddings: Any, **others: Any) -> Tensor:
        return super().forward(self.loss, *embeddings, **others)

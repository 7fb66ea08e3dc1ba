"""Shuffled group whitening, the pre-operation of WhitenedCSE (Zhuo et al. 2023, arXiv 2305.17746)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from contrastive_ops.check import check_matrix, without_autocast
from contrastive_ops.losses._checks import check_indices, check_number
from contrastive_ops.ops.once import differentiable_once
from contrastive_ops.ops.rule import Rule
from contrastive_ops.plain import plain_int


def shuffled_group_whitening(
    features: Tensor, *, group_size: int = 6, order: Tensor | None = None, epsilon: float = 1e-5
) -> Tensor:
    """ZCA whitening over the batch within groups of channels that are drawn anew at every call.

        x = features[:, order] in groups of g channels, less their means
        C = x^T x / N + epsilon I,  y = x C^(-1/2)

    Views of it with different orders are the sets of `shared_anchor_loss`, after the encoder's head and normalisation.

    Args:
        features: `[N, D]`.
        group_size: g, a divisor of D; 6 in the paper (128 groups of 768 channels).
        order: `[D]`, a permutation of the channels; None draws one. It is undone in the result.
        epsilon: > 0; with it a batch smaller than a group, or a constant channel, is no problem.

    Returns:
        `[N, D]`, dtype of the features (at least float32 inside). O(N*D*g). Gradients reach the covariance too.
        On a GPU the eigendecomposition waits for the device once, to see whether it succeeded (`torch.linalg.eigh`).
    """
    check_matrix("features", features)
    epsilon = check_number("epsilon", epsilon, 0.0, low_belongs=False)
    n, d = features.shape
    group_size = plain_int(group_size)
    if not isinstance(group_size, int) or group_size < 1 or d % group_size:
        raise ValueError(f"group_size must be a divisor of D={d}, got {group_size}")
    order = check_indices("order", order, d, d) if order is not None else torch.randperm(d, device=features.device)
    with without_autocast(features):
        x = features.to(torch.promote_types(features.dtype, torch.float32))[:, order]
        x = x.view(n, d // group_size, group_size).transpose(0, 1)  # [groups, N, g]
        x = x - x.mean(1, keepdim=True)
        covariance = x.mT @ x / max(n, 1) + epsilon * torch.eye(group_size, dtype=x.dtype, device=x.device)
        y = x @ _InverseSquareRoot.apply(covariance)[0]
    whitened: Tensor = y.transpose(0, 1).reshape(n, d)[:, order.argsort()]
    return whitened.to(features.dtype)


class _InverseSquareRoot(Rule):
    """C^(-1/2) of positive definite `[groups, g, g]`.

    Differentiating `eigh` divides by differences of eigenvalues. For this function they cancel: with C = U diag(l) U^T,

        dC = U ( (U^T dF U) * K ) U^T,   K_ab = -1 / ( sqrt(l_a l_b) (sqrt(l_a) + sqrt(l_b)) )
    """

    @staticmethod
    def run(covariance):  # type: ignore[no-untyped-def]
        values, vectors = torch.linalg.eigh(covariance)
        root = values.sqrt()
        return ((vectors / root[:, None, :]) @ vectors.mT,), (root, vectors)

    @staticmethod
    def keep(ctx: Any, args, outputs, kept):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(*kept, *args)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, saved, gradient):  # type: ignore[no-untyped-def]
        root, vectors, _ = saved  # the covariance is saved for its graph alone
        a, b = root[:, :, None], root[:, None, :]
        return (vectors @ (vectors.mT @ gradient @ vectors * (-1.0 / (a * b * (a + b)))) @ vectors.mT,)

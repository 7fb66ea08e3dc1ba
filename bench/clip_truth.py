"""The symmetric CLIP loss and its gradients in float64, in bounded memory, on any device."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

ROWS_PER_BLOCK = 512


class Truth(NamedTuple):
    """The symmetric CLIP loss and its gradients."""

    loss: Tensor
    dx: Tensor
    dy: Tensor
    dscale: Tensor


def clip_truth(x: Tensor, y: Tensor, scale: Tensor) -> Truth:
    """Value and gradients in float64, in blocks of rows.

    The positive is kept out of its own log-sum-exp (loss_i = softplus(lse_negatives - s_ii)): the dense
    cross-entropy loses confident pairs even in float64.
    """
    x, y, scale = (value.detach().double() for value in (x, y, scale))
    n = x.shape[0]
    blocks = [slice(start, min(start + ROWS_PER_BLOCK, n)) for start in range(0, n, ROWS_PER_BLOCK)]

    def negatives(rows: slice) -> Tensor:
        scores = scale * (x[rows] @ y.mT)
        scores[:, rows].fill_diagonal_(-math.inf)
        return scores

    positive = scale * (x * y).sum(1)
    row_lse = torch.empty_like(positive)
    col_lse = torch.full_like(positive, -math.inf)
    for rows in blocks:
        scores = negatives(rows)
        row_lse[rows] = scores.logsumexp(1)
        col_lse = torch.logaddexp(col_lse, scores.logsumexp(0))

    # dL/dlse_i = sigmoid(lse_i - s_ii) / 2n in each direction
    row_weight, col_weight = (torch.sigmoid(lse - positive) / (2 * n) for lse in (row_lse, col_lse))
    dx, dy = torch.zeros_like(x), torch.zeros_like(y)
    for rows in blocks:
        scores = negatives(rows)
        ds = row_weight[rows, None] * (scores - row_lse[rows, None]).exp_() + col_weight * (scores - col_lse).exp_()
        dx[rows] = ds @ y
        dy += ds.mT @ x[rows]
    weight = (row_weight + col_weight)[:, None]
    dx, dy = scale * (dx - weight * y), scale * (dy - weight * x)
    losses = [-torch.nn.functional.logsigmoid(positive - lse) for lse in (row_lse, col_lse)]
    return Truth(0.5 * (losses[0] + losses[1]).mean(), dx, dy, (dx * x).sum() / scale)

"""The cross-entropy of a positive that stays out of its own log-sum-exp."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def cross_entropy_of_positive(lse_negatives: Tensor, positive: Tensor) -> Tensor:
    """-log softmax of the positive among itself and its negatives, as softplus(lse_negatives - positive).

    The positive stays out of its own log-sum-exp, so its gradient is -sigmoid(lse_negatives - positive), never the
    difference p - 1 that loses confident pairs. No negatives (lse = -inf) give 0.
    """
    # above the threshold softplus is linear, and exp(-50) is below the last bit of 50 also in float64
    return F.softplus(lse_negatives - positive, threshold=50.0)

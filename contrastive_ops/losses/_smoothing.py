"""Label smoothing without a pass over the scores: only their means are needed."""

from __future__ import annotations

from torch import Tensor


def check_label_smoothing(label_smoothing: float) -> None:
    """Raise unless it is a float in [0, 1)."""
    if isinstance(label_smoothing, bool) or not isinstance(label_smoothing, (int, float)):
        raise TypeError(f"label_smoothing must be a float in [0, 1), got {type(label_smoothing).__name__}")
    if not 0.0 <= label_smoothing < 1.0:
        raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}")


def smooth(losses: Tensor, positive: Tensor, mean_score: Tensor, label_smoothing: float) -> Tensor:
    """CE + e * (s_ii - mean_j s_ij): against targets that keep 1 - e and spread e over all candidates."""
    return losses + label_smoothing * (positive - mean_score)

"""Class labels, one number of which stands for "no class"."""

from __future__ import annotations

import torch
from torch import Tensor


def is_labelled(labels: Tensor, ignore_index: int) -> Tensor:
    """Which items have a class, bool `[N]`."""
    if isinstance(ignore_index, bool) or not isinstance(ignore_index, (int, torch.SymInt)):
        raise TypeError(f"ignore_index must be an int, got {type(ignore_index).__name__}")
    return labels.to(torch.int64) != ignore_index  # a narrow type would take -1 for its largest number

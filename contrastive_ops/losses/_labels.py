"""Class labels, one number of which stands for "no class"."""

from __future__ import annotations

import torch
from torch import Tensor

from contrastive_ops.plain import plain_int


def is_labelled(labels: Tensor, ignore_index: int) -> Tensor:
    """Which items have a class, bool `[N]`."""
    ignore_index = plain_int(ignore_index)
    if isinstance(ignore_index, bool) or not isinstance(ignore_index, (int, torch.SymInt)):
        raise TypeError(f"ignore_index must be an int, got {type(ignore_index).__name__}")
    if isinstance(ignore_index, int) and not -(2**63) <= ignore_index < 2**63:
        raise ValueError(f"ignore_index must fit into 64 bits, got {ignore_index}")
    return labels.to(torch.int64) != ignore_index  # a narrow type would take -1 for its largest number

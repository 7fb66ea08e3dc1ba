"""What a loss may keep until backward."""

from __future__ import annotations

import torch
from torch import Tensor

from contrastive_ops.readable import is_readable


def steady(integers: Tensor) -> Tensor:
    """The same numbers as int64, contiguous, in memory that nobody changes unnoticed.

    PyTorch counts the writes to its tensors, and backward refuses what was written to. What NumPy writes into memory
    that a tensor shares with it nobody sees, so that is copied. (A compiled graph does not look.)
    """
    whole = savable(integers.detach().to(torch.int64).contiguous())
    shared = is_readable(whole) and not whole.untyped_storage().resizable()
    return whole.clone() if shared else whole


def savable(value: Tensor) -> Tensor:
    """Itself; a copy of what was made under `torch.inference_mode`, which autograd does not save."""
    made_there = not torch.compiler.is_compiling() and value.is_inference()
    return value.clone() if made_there and not torch.is_inference_mode_enabled() else value

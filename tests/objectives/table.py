"""A row of the table, its inputs, and what the dense formulas share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastive_ops.problem import statistics_dtype

N, D = 21, 8


@dataclass(frozen=True)
class Objective:
    """`ours(**inputs, **settings)` is to equal `dense(**inputs, **settings)`."""

    ours: Callable[..., Tensor]
    dense: Callable[..., Tensor]  # from stored scores, per item (or one number)
    inputs: Callable[[torch.dtype], dict[str, Any]]
    settings: dict[str, Any] = field(default_factory=dict)
    counted: Callable[..., Tensor] | None = None  # of the inputs: bool per item, what the mean is over; None: all
    reduces: bool = True  # takes `reduction`
    has_backend: bool = True
    terms: float = 0.0  # size of the terms that cancel in the result: no algorithm keeps digits that they do not have
    half: bool = True  # False where several gradients or steps are rounded to bfloat16 one by one


def unit(*shape: int, seed: int) -> Tensor:
    """Float64 unit vectors of random directions."""
    return F.normalize(torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=-1)


def inputs(n: int = N, d: int = D, **given: Any) -> Callable[[torch.dtype], dict[str, Any]]:
    """Leaves by name: `()` stands for embeddings `[n, d]` and `(v,)` for `[v, n, d]`, all correlated row by row; a
    number for a learnable one; a tensor for itself, with gradient if floating (rounded to the dtype if a matrix)."""

    def make(dtype: torch.dtype) -> dict[str, Any]:
        shared = unit(n, d, seed=100)
        leaves: dict[str, Any] = {}
        for seed, (name, value) in enumerate(given.items()):
            if isinstance(value, tuple):
                value = F.normalize(0.7 * shared + unit(*value, n, d, seed=seed), dim=-1)
            elif isinstance(value, float):
                value = torch.tensor(value, dtype=torch.float64)
            if isinstance(value, Tensor) and value.is_floating_point():
                value = value.to(dtype if value.dim() > 1 else statistics_dtype(dtype)).detach().requires_grad_()
            leaves[name] = value
        return leaves

    return make


def off_diagonal(n: int) -> Tensor:
    return ~torch.eye(n, dtype=torch.bool)


def equal(rows: Tensor, columns: Tensor | None = None) -> Tensor:
    """Mask of equal ids."""
    return rows[:, None] == (rows if columns is None else columns)[None, :]


def lse(scores: Tensor, mask: Tensor) -> Tensor:
    """Log-sum-exp of each row over the mask; -inf without gradient where it holds nothing."""
    empty = ~mask.any(-1)
    safe = scores.masked_fill(~mask, -torch.inf).masked_fill(empty[..., None], 0.0)
    return safe.logsumexp(-1).masked_fill(empty, -torch.inf)


def zero_where_empty(losses: Tensor, mask: Tensor) -> Tensor:
    """The convention for a row whose mask holds nothing."""
    return torch.where(mask.any(-1), losses, 0.0)


def mean_where(scores: Tensor, mask: Tensor) -> Tensor:
    """Mean of each row over the mask; 0 where it holds nothing."""
    return scores.masked_fill(~mask, 0.0).sum(-1) / mask.sum(-1).clamp(min=1)


# ids of N items: a few of each, some alone
FEW = torch.arange(N) % 4
SOME_ALONE = torch.tensor([5, 5, 5, -1, 8, 8, 3] * 3) + torch.tensor([0] * 14 + [20, 20, 20, 31, 40, 41, 50])
ALONE = torch.arange(N).flip(0) - 3

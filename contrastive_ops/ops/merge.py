"""A union of disjoint candidate sets is a merge of their log-sum-exps."""

from __future__ import annotations

import torch
from torch import Tensor


def merge_lse(*parts: Tensor) -> Tensor:
    """log sum_c exp(lse_c): the log-sum-exp over the union of disjoint candidate sets.

    Args:
        parts: one or more tensors of one shape, the log-sum-exp of each set; -inf for an empty set.

    Returns:
        A tensor of that shape; -inf where every part is. Differentiable: part c receives exp(lse_c - merged),
        and 0 where everything is empty (`torch.logaddexp` gives NaN there).
    """
    if not parts:
        raise ValueError("merge_lse needs at least one part, got none")
    for part in parts:
        if not isinstance(part, Tensor):
            raise TypeError(f"every part must be a torch.Tensor, got {type(part).__name__}")
        if part.shape != parts[0].shape:
            raise ValueError(f"all parts must have one shape, got {tuple(parts[0].shape)} and {tuple(part.shape)}")
    return parts[0] if len(parts) == 1 else merged_along(torch.stack(parts), 0)


def merged_along(parts: Tensor, dim: int) -> Tensor:
    """`merge_lse` of the parts that lie along one dimension, which disappears; -inf where it has length 0."""
    empty = parts.isneginf().all(dim, keepdim=True)
    return parts.masked_fill(empty, 0.0).logsumexp(dim).masked_fill(empty.squeeze(dim), -torch.inf)

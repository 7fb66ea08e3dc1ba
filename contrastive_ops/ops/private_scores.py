"""Scores of candidates that one row alone has: every key is used once, so nothing is packed or kept."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from contrastive_ops.check import autocast, check_scale, without_autocast
from contrastive_ops.ops.once import differentiable_once
from contrastive_ops.ops.rule import Rule
from contrastive_ops.ops.transforms import require_grad, requires_grad
from contrastive_ops.problem import statistics_dtype

# of keys that are widened at a time: what a cache holds, and what keeps all processors of a GPU busy
CPU_CHUNK, GPU_CHUNK = 1 << 16, 1 << 22


def private_scores(queries: Tensor, keys: Tensor, scale: float | Tensor) -> Tensor:
    """scale * <q_i, k_ic>, `[M, C]` in the statistics dtype, for queries `[M, D]` or `[M, C, D]` and keys `[M, C, D]`.

    Takes the memory of scores and gradients. Half-precision keys are widened a few rows at a time: all at once they
    would take twice their own memory.
    """
    queries, keys = autocast(queries), autocast(keys)
    with without_autocast(keys):
        if queries.dtype == keys.dtype == statistics_dtype(keys.dtype):
            products = _products(queries, keys)
        else:
            (products,) = _WidenedProducts.apply(queries, keys, require_grad((queries, keys)))
        return check_scale(scale, keys.device, products.dtype) * products


def _products(queries: Tensor, keys: Tensor) -> Tensor:
    if queries.dim() == 3:
        return (queries * keys).sum(-1)
    if requires_grad(keys):  # whose gradient is then made in their layout
        return torch.bmm(keys, queries.unsqueeze(2)).squeeze(2)
    return torch.bmm(queries.unsqueeze(1), keys.mT).squeeze(1)  # faster


class _WidenedProducts(Rule):
    @staticmethod
    def run(queries, keys, wanted):  # type: ignore[no-untyped-def]
        wide = statistics_dtype(torch.promote_types(queries.dtype, keys.dtype))
        products = keys.new_empty(keys.shape[:2], dtype=wide)
        for rows in _chunks(keys):
            products[rows] = _products(queries[rows].to(wide), keys[rows].to(wide))
        return (products,), ()

    @staticmethod
    def keep(ctx: Any, args, outputs, kept):  # type: ignore[no-untyped-def]
        queries, keys, ctx.wanted = args
        ctx.save_for_backward(queries, keys)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, saved, d_products):  # type: ignore[no-untyped-def]
        queries, keys = saved
        of_queries, of_keys = ctx.wanted
        dqueries = torch.empty_like(queries) if of_queries else None
        dkeys = torch.empty_like(keys) if of_keys else None
        for rows in _chunks(keys):
            weights = d_products[rows].unsqueeze(2)
            if dqueries is not None:
                wide = keys[rows].to(d_products.dtype)
                dqueries[rows] = wide * weights if queries.dim() == 3 else torch.bmm(weights.mT, wide).squeeze(1)
            if dkeys is not None:
                each = queries[rows] if queries.dim() == 3 else queries[rows].unsqueeze(1)
                dkeys[rows] = each * weights
        return dqueries, dkeys, None


def _chunks(keys: Tensor) -> list[slice]:
    """Parts of the rows."""
    m, elements = keys.shape[0], keys.shape[1] * keys.shape[2]
    if torch.compiler.is_compiling():  # a loop would fix the number of rows in the graph
        return [slice(0, m)]
    height = max((CPU_CHUNK if keys.device.type == "cpu" else GPU_CHUNK) // max(elements, 1), 1)
    return [slice(start, start + height) for start in range(0, m, height)]

"""Softmax-weighted mean of values beside the keys: soft targets of a frozen teacher, never stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from contrastive_ops.backends import check_backend_name
from contrastive_ops.check import autocast, check_embeddings, check_scale
from contrastive_ops.form import Flat, flatten
from contrastive_ops.ops.lse_gradient import KEYS, QUERIES, lse_and_gradient, row_lse_problem
from contrastive_ops.ops.once import differentiable_once
from contrastive_ops.ops.rule import Rule
from contrastive_ops.problem import DEFAULT_WORKSPACE_BYTES, statistics_dtype
from contrastive_ops.relations import Relation


def softmax_mean(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    *,
    scale: float = 1.0,
    col_bias: Tensor | None = None,
    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES,
    backend: str | None = None,
) -> Tensor:
    """u_i = sum_j p_ij v_j with p_ij = softmax_j(scale * <q_i, k_j> + col_bias_j), a constant of the gradient.

    Values are laid beside the keys, where queries have zeros, so that scores do not see them:

        queries [q_i, 0],    keys [k_j, v_j]:  the gradient of sum_i lse_i in query i is scale * [ . , u_i ]
        queries [q_i, du_i], keys [k_j, 0]:    its gradient in key j is scale * [ . , dv_j ],  dv_j = sum_i p_ij du_i

    Args:
        queries: `[M, D]`, keys: `[N, D]`, values: `[N, E]`; only values receive a gradient.
        scale, col_bias, workspace_bytes, backend: as in `similarity_statistics`.

    Returns:
        `[M, E]`, float32 (float64 for float64 queries).
    """
    return softmax_mean_and_statistics(
        queries, keys, values, scale=scale, col_bias=col_bias, workspace_bytes=workspace_bytes, backend=backend
    )[0]


def softmax_mean_and_statistics(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    *,
    scale: float = 1.0,
    col_bias: Tensor | None = None,
    candidates: Relation | None = None,
    positives: Relation | None = None,
    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES,
    backend: str | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """`softmax_mean` over the candidates (0 without any), and its row_lse and row_sum `[M]`, which have no gradient."""
    check_backend_name(backend)
    for name, value in (("queries", queries), ("keys", keys), ("values", values)):
        check_embeddings(name, value)
    dtype = statistics_dtype(queries.dtype)
    queries, keys, values = (autocast(x).to(dtype) for x in (queries.detach(), keys.detach(), values))
    bias = None if col_bias is None else col_bias.detach()
    scale_tensor = check_scale(scale, queries.device, dtype).detach()
    # the mean is taken from a gradient that holds the scale, so a scale of 0 is given to the queries
    is_zero = scale_tensor == 0.0
    queries, scale_tensor = queries.masked_fill(is_zero, 0.0), scale_tensor.masked_fill(is_zero, 1.0)
    # checked without values, beside which everything else stays as it is
    problem = row_lse_problem(
        queries,
        keys,
        bias,
        workspace_bytes,
        scale=scale_tensor,
        candidates=candidates,
        positives=positives,
    )
    flat = flatten(problem, problem.workspace_bytes)
    found: tuple[Tensor, Tensor, Tensor | None]
    found = _SoftmaxMean.apply(values, backend, flat.form, flat.numbers, *flat.leaves)
    return found


class _SoftmaxMean(Rule):
    num_outputs = 3

    @staticmethod
    def run(values, backend, form, numbers, *leaves):  # type: ignore[no-untyped-def]
        scale, queries, keys, *_ = leaves
        beside = _beside(leaves, queries.new_zeros(queries.shape[0], values.shape[1]), values)
        lse, total, gradient = lse_and_gradient(Flat(beside, numbers, form), backend, QUERIES)
        return (gradient[:, keys.shape[1] :] / scale, lse, total), ()

    @staticmethod
    def keep(ctx: Any, args, outputs, kept):  # type: ignore[no-untyped-def]
        values, ctx.backend, ctx.form, ctx.numbers, *leaves = args
        ctx.save_for_backward(values, *leaves)
        ctx.mark_non_differentiable(*(x for x in outputs[1:] if x is not None))

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, saved, d_mean, _, __):  # type: ignore[no-untyped-def]
        values, *leaves = saved
        scale, _, keys, *_ = leaves
        flat = Flat(_beside(leaves, d_mean, torch.zeros_like(values)), ctx.numbers, ctx.form)
        gradient = lse_and_gradient(flat, ctx.backend, KEYS)[2]
        return gradient[:, keys.shape[1] :] / scale, None, None, None, *[None for _ in leaves]


def _beside(leaves: Sequence[Tensor], of_queries: Tensor, of_keys: Tensor) -> list[Tensor]:
    """Leaves of a problem with more dimensions of queries and keys."""
    scale, queries, keys, *others = leaves
    return [scale, torch.cat((queries, of_queries), 1), torch.cat((keys, of_keys), 1), *others]

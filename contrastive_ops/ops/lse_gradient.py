"""Row log-sum-exps and the gradient of their sum in one side, outside of autograd: softmax-weighted means."""

from __future__ import annotations

import torch
from torch import Tensor

from contrastive_ops.build_problem import build_problem
from contrastive_ops.check import without_autocast
from contrastive_ops.form import Flat
from contrastive_ops.ops.statistics import statistics_reductions
from contrastive_ops.problem import Problem
from contrastive_ops.relations import Relation

QUERIES, KEYS = 1, 2  # among the leaves of a `row_lse_problem`, after the scale


def row_lse_problem(
    queries: Tensor,
    keys: Tensor,
    col_bias: Tensor | None,
    workspace_bytes: int,
    *,
    scale: float | Tensor,
    candidates: Relation | None = None,
    positives: Relation | None = None,
) -> Problem:
    """lse_i over the candidates; inputs are what autocast has made of them."""
    with without_autocast(queries):
        return build_problem(
            queries,
            keys,
            statistics_reductions(candidates, positives),
            scale=scale,
            col_bias=col_bias,
            workspace_bytes=workspace_bytes,
        )


def lse_and_gradient(flat: Flat, backend: str | None, leaf: int) -> tuple[Tensor, Tensor | None, Tensor]:
    """(row_lse, row_sum if there are positives, d sum_i lse_i / d leaf) of a flat `row_lse_problem`: in the queries,
    the softmax-weighted means of the keys."""
    results = torch.ops.contrastive_ops.reduce(*flat, backend)
    upstream = [torch.ones_like(results[0]), *[None for _ in results[2:]]]
    wanted = [i == leaf for i in range(len(flat.leaves))]
    gradients = torch.ops.contrastive_ops.reduce_backward(*flat, backend, results, upstream, wanted)
    return results[0], results[1] if len(results) > 2 else None, gradients[leaf]

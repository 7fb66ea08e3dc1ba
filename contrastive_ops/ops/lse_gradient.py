"""Row log-sum-exps and the gradient of their sum in one input, outside of autograd: softmax-weighted means."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from contrastive_ops.ops.schema import Settings
from contrastive_ops.problem import Gradients, Problem, build_problem, without_autocast
from contrastive_ops.relations import Relation


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
            scale=scale,
            col_bias=col_bias,
            candidates=candidates,
            positives=positives,
            workspace_bytes=workspace_bytes,
        )


def lse_and_gradient(inputs: Sequence[Tensor | None], settings: Settings, name: str) -> tuple[Tensor, Tensor, Tensor]:
    """(row_lse, row_sum, d sum_i lse_i / d input of that name): in the queries, the softmax-weighted means of the keys.

    `inputs` are those of the operators, `settings` those of a `row_lse_problem`.
    """
    *statistics, state = torch.ops.contrastive_ops.similarity_statistics(*inputs, *settings)
    upstream = (torch.ones_like(statistics[0]), None, None, None)
    wanted = [field == name for field in Gradients._fields]
    gradients = torch.ops.contrastive_ops.similarity_statistics_backward(
        *inputs, *settings, *statistics, state, *upstream, wanted
    )
    return statistics[0], statistics[1], gradients[Gradients._fields.index(name)]

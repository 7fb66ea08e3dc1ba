"""The dense formulas, from stored scores: statistics with their gradients, and the loss that trainers have."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastive_ops.testing.cases import Case, Inputs, cast_inputs


def dense_clip_loss(images: Tensor, texts: Tensor, scale: float | Tensor) -> Tensor:
    """The plain eager loss that trainers have: the mean of two cross-entropies on stored `[n, n]` logits."""
    logits = scale * images @ texts.mT
    target = torch.arange(images.shape[0], device=images.device)
    return 0.5 * (F.cross_entropy(logits, target) + F.cross_entropy(logits.mT, target))


def dense_scores(inputs: Inputs) -> Tensor:
    """s_ij = scale * <q_i, k_j> + row_bias_i + col_bias_j."""
    scores = inputs.scale * (inputs.queries @ inputs.keys.mT)
    if inputs.row_bias is not None:
        scores = scores + inputs.row_bias[..., :, None]
    if inputs.col_bias is not None:
        scores = scores + inputs.col_bias[..., None, :]
    return scores


def dense_statistics(scores: Tensor, inputs: Inputs, case: Case) -> dict[str, Tensor]:
    """The definition, from stored scores; differentiable."""
    candidates = inputs.candidates.mask.expand_as(scores)
    found = {}
    for name, dim, wanted in (("row", -1, case.rows), ("col", -2, case.columns)):
        if not wanted:
            continue
        empty = ~candidates.any(dim)
        # a line without candidates is taken from zeros, so that its gradient is 0, and set to -inf afterwards
        masked = scores.masked_fill(~candidates, -torch.inf).masked_fill(empty.unsqueeze(dim), 0.0)
        lse = masked.logsumexp(dim) if scores.shape[dim] else scores.sum(dim)
        found[f"{name}_lse"] = lse.masked_fill(empty, -torch.inf)
        if inputs.positives is not None:
            found[f"{name}_sum"] = scores.masked_fill(~inputs.positives.mask, 0.0).sum(dim)
    return found


def differentiate(
    outputs: dict[str, Tensor], leaves: dict[str, Tensor], positive_upstream: bool = False
) -> dict[str, Tensor]:
    """d_<leaf> of sum(upstream * outputs) for random upstream gradients; zeros where a leaf has no influence."""
    generator = torch.Generator().manual_seed(1)
    upstream = [torch.randn(value.shape, generator=generator, dtype=torch.float64) for value in outputs.values()]
    grads = torch.autograd.grad(
        list(outputs.values()),
        list(leaves.values()),
        [
            (g.abs() if positive_upstream else g).to(value.dtype)
            for g, value in zip(upstream, outputs.values(), strict=True)
        ],
        retain_graph=True,
        allow_unused=True,
        materialize_grads=True,
    )
    return {f"d_{name}": grad for name, grad in zip(leaves, grads, strict=True)}


class Dense(NamedTuple):
    """Statistics and gradients of the dense formula; `sizes[name]`: root sum of squares of each result's terms.

    An error is measured against the terms where they cancel: no algorithm keeps digits that its terms do not have.
    """

    results: dict[str, Tensor]
    sizes: dict[str, Tensor]


def dense_results(inputs: Inputs, case: Case, dtype: torch.dtype) -> Dense:
    """Everything in `dtype`, from the rounded inputs."""
    inputs = cast_inputs(inputs, dtype)
    scores = dense_scores(inputs)
    values = dense_statistics(scores, inputs, case)
    grads = differentiate(values, inputs.leaves())
    # the terms of dS_ij = g_i p_ij + h_j p'_ij + a_i + b_j without their signs
    ds = differentiate(values, {"scores": scores}, positive_upstream=True)["d_scores"]
    scale = inputs.scale if isinstance(inputs.scale, float) else inputs.scale.detach()
    queries, keys = inputs.queries.detach(), inputs.keys.detach()
    dq_terms = abs(scale) * (ds**2 @ keys.norm(dim=-1, keepdim=True) ** 2).sqrt().squeeze(-1)
    dk_terms = abs(scale) * (ds.mT**2 @ queries.norm(dim=-1, keepdim=True) ** 2).sqrt().squeeze(-1)
    row_terms, col_terms = ds.norm(dim=-1), ds.norm(dim=-2)
    shared_bias = inputs.row_bias is inputs.col_bias
    sizes = {
        "d_queries": dq_terms.hypot(dk_terms) if case.is_self else dq_terms,
        "d_keys": dk_terms,
        # one number out of all pairs: against the sum of its rows' sizes, as their signs are random here
        "d_scale": (ds * (queries @ keys.mT)).sum(-1).abs().sum(),
        "d_row_bias": row_terms.hypot(col_terms) if case.is_self and shared_bias else row_terms,
        "d_col_bias": col_terms,
    }
    if inputs.positives is not None:
        positive = scores.detach().masked_fill(~inputs.positives.mask, 0.0)
        sizes |= {"row_sum": positive.norm(dim=-1), "col_sum": positive.norm(dim=-2)}
    return Dense({name: value.detach() for name, value in {**values, **grads}.items()}, sizes)

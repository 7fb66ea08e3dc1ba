"""The definition of right: dense and obvious, one formula a line. O(B*M*N) memory."""

from __future__ import annotations

import torch
from torch import Tensor

from contrastive_ops.backends.base import Wanted
from contrastive_ops.problem import Gradients, Problem, Statistics
from contrastive_ops.relations import Relation


def dense_products(problem: Problem) -> Tensor:
    """<q_i, k^s_j>, [B, K, M, N] in the statistics dtype."""
    queries, banks = queries_and_banks(problem)
    return queries @ banks.mT


def queries_and_banks(problem: Problem) -> tuple[Tensor, Tensor]:
    """[B, 1, M, D] and [B, K, N, D] in the statistics dtype."""
    batch, _, n, d = problem.sizes
    dtype = problem.statistics_dtype
    return problem.queries.to(dtype).unsqueeze(1), problem.keys.to(dtype).reshape(batch, problem.banks, n, d)


def dense_scores(problem: Problem) -> Tensor:
    """s_ij = scale * score(i, j) + row_bias_i + col_bias_j, [B, M, N] in the statistics dtype."""
    scores = problem.scale * problem.score.value(dense_products(problem))
    if problem.row_bias is not None:
        scores = scores + problem.row_bias[:, :, None]
    if problem.col_bias is not None:
        scores = scores + problem.col_bias[:, None, :]
    return scores


def dense_mask(relation: Relation, problem: Problem) -> Tensor:
    """Bool [B, M, N]."""
    batch, m, n, _ = problem.sizes
    device = problem.queries.device
    mask = relation.mask(slice(0, m), slice(0, n), device)
    if mask is None:
        mask = torch.ones((), dtype=torch.bool, device=device)
    return mask.expand(batch, m, n)


def dense_statistics(problem: Problem) -> Statistics:
    """All statistics from the dense score matrix."""
    scores = dense_scores(problem)
    candidates = dense_mask(problem.candidates, problem)
    positives = dense_mask(problem.positives, problem) if problem.positives is not None else None

    def lse(dim: int) -> Tensor:
        return scores.masked_fill(~candidates, -torch.inf).logsumexp(dim)

    def positive_sum(dim: int) -> Tensor | None:
        return None if positives is None else scores.masked_fill(~positives, 0.0).sum(dim)

    return Statistics(
        row_lse=lse(2) if problem.rows else None,
        row_sum=positive_sum(2) if problem.rows else None,
        col_lse=lse(1) if problem.columns else None,
        col_sum=positive_sum(1) if problem.columns else None,
    )


class ReferenceBackend:
    name = "reference"
    summary = "dense PyTorch, the definition of right; O(M*N) memory"

    def missing(self) -> str | None:
        return None

    def reasons(self, problem: Problem) -> list[str]:
        return []

    def state_bytes(self, problem: Problem) -> int:
        return 0

    def forward(self, problem: Problem) -> tuple[Statistics, Tensor | None]:
        return dense_statistics(problem), None

    def backward(
        self, problem: Problem, statistics: Statistics, upstream: Statistics, state: Tensor, wanted: Wanted
    ) -> Gradients:
        ds = dense_score_gradient(problem, statistics, upstream)
        if problem.self_similarity:
            ds = ds + ds.mT  # both roles of the one tensor
        queries, banks = queries_and_banks(problem)
        products = dense_products(problem)
        weights, drow_term, dcol_term = problem.score.gradient(products, ds)
        # dQ = scale sum_s dS^s K^s    dK^s = scale dS^s^T Q    dscale = sum_ij dS_ij score(i, j)
        # drow_bias = dS 1    dcol_bias = 1^T dS
        dqueries = problem.scale * (weights @ banks).sum(1)
        dkeys = (problem.scale * (weights.mT @ queries)).reshape(problem.keys.shape)
        dscale = (ds * problem.score.value(products)).sum()
        return Gradients(
            queries=dqueries.to(wanted.dtype or problem.queries.dtype) if wanted.queries else None,
            keys=dkeys.to(wanted.dtype or problem.keys.dtype) if wanted.keys else None,
            scale=(dscale / 2 if problem.self_similarity else dscale) if wanted.scale else None,
            row_bias=ds.sum(2) if wanted.row_bias else None,
            col_bias=ds.sum(1) if wanted.col_bias else None,
            row_term=problem.scale * drow_term if wanted.row_term and drow_term is not None else None,
            col_term=problem.scale * dcol_term if wanted.col_term and dcol_term is not None else None,
        )


def dense_score_gradient(problem: Problem, statistics: Statistics, upstream: Statistics) -> Tensor:
    """dS_ij = cand_ij (g_i exp(s_ij - lse_i) + h_j exp(s_ij - lse_j)) + pos_ij (a_i + b_j), [B, M, N]."""
    scores = dense_scores(problem)
    candidates = dense_mask(problem.candidates, problem)
    ds = torch.zeros_like(scores)
    for dim, lse, d_lse in ((2, statistics.row_lse, upstream.row_lse), (1, statistics.col_lse, upstream.col_lse)):
        if lse is not None and d_lse is not None:
            softmax = (scores - lse.unsqueeze(dim)).exp().masked_fill(~candidates, 0.0)  # an empty line is all masked
            ds = ds + softmax * d_lse.unsqueeze(dim)
    if problem.positives is not None:
        positives = dense_mask(problem.positives, problem)
        for dim, d_sum in ((2, upstream.row_sum), (1, upstream.col_sum)):
            if d_sum is not None:
                ds = ds + d_sum.unsqueeze(dim).expand_as(ds).masked_fill(~positives, 0.0)
    return ds

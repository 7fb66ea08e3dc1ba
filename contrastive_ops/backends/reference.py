"""The definition of right: dense and obvious, one formula a line. O(B*M*N) memory."""

from __future__ import annotations

import torch
from torch import Tensor

from contrastive_ops.backends.base import Outer, Wanted
from contrastive_ops.backends.panels import total_and_gradients
from contrastive_ops.problem import Gradients, Problem, Results
from contrastive_ops.relations import Relation


def dense_products(problem: Problem) -> Tensor:
    """<q^r_i, k^c_j> of every pair (r, c) of vectors, [B, P, M, N] in the statistics dtype."""
    queries, keys = vectors_of_pairs(problem)
    return queries @ keys.mT


def vectors_of_pairs(problem: Problem) -> tuple[Tensor, Tensor]:
    """[B, P, M, D] and [B, P, N, D] in the statistics dtype."""
    of_rows, of_cols = ([pair[side] for pair in problem.pairs] for side in (0, 1))
    dtype = problem.statistics_dtype
    return problem.rows.vectors.to(dtype)[:, of_rows], problem.cols.vectors.to(dtype)[:, of_cols]


def dense_scores(problem: Problem) -> Tensor:
    """s_ij = scale * score(i, j) + row_bias_i + col_bias_j, [B, M, N] in the statistics dtype."""
    scores = problem.scale * problem.score.value(dense_products(problem))
    if problem.rows.bias is not None:
        scores = scores + problem.rows.bias[:, :, None]
    if problem.cols.bias is not None:
        scores = scores + problem.cols.bias[:, None, :]
    return scores


def dense_mask(relation: Relation, problem: Problem) -> Tensor | None:
    """Bool [B, M, N]; None for all pairs."""
    batch, m, n, _ = problem.sizes
    mask = relation.mask(m, n, problem.scale.device)
    return None if mask is None else mask.expand(batch, m, n)


def dense_score_gradient(problem: Problem, results: Results, upstream: Results) -> Tensor:
    """dS_ij = sum over reductions of factor * slope_ij, [B, M, N]."""
    scores = dense_scores(problem)
    ds = torch.zeros_like(scores)
    for reduction, result, given in zip(problem.reductions, results, upstream, strict=True):
        if any(value is not None for value in given):
            mask, spare = dense_mask(reduction.relation, problem), torch.empty_like(scores)
            ds += reduction.scaled(reduction.slope(reduction.scaled(scores), mask, result, given, spare))
    return ds


class ReferenceBackend:
    name = "reference"
    summary = "dense PyTorch, the definition of right; O(M*N) memory"

    def missing(self) -> str | None:
        return None

    def reasons(self, problem: Problem) -> list[str]:
        return []

    def state_bytes(self, problem: Problem) -> int:
        return 0

    def forward(self, problem: Problem) -> tuple[Results, Tensor | None]:
        if problem.is_empty:
            return problem.neutral_results(), None
        scores = dense_scores(problem)
        results = []
        for reduction in problem.reductions:
            own, mask = reduction.scaled(scores.clone()), dense_mask(reduction.relation, problem)
            results.append(reduction.reduced(iter(reduction.take(own, mask, reduction.dims, torch.empty_like(own)))))
        return tuple(results), None

    def backward(
        self, problem: Problem, results: Results, upstream: Results, state: Tensor, wanted: Wanted
    ) -> Gradients:
        ds = dense_score_gradient(problem, results, upstream)
        if problem.self_similarity:
            ds = ds + ds.mT  # both roles of the one tensor
        queries, keys = vectors_of_pairs(problem)
        products = dense_products(problem)
        weights, drow_term, dcol_term = problem.score.gradient(products, ds)
        # dQ^r = scale sum_p dS^p K^c    dK^c = scale sum_p dS^p^T Q^r    dscale = sum_ij dS_ij score(i, j)
        # drow_bias = dS 1    dcol_bias = 1^T dS
        dscale = (ds * problem.score.value(products)).sum()
        return Gradients(
            queries=_sum_of_pairs(problem, 0, weights @ keys, wanted) if wanted.queries else None,
            keys=_sum_of_pairs(problem, 1, weights.mT @ queries, wanted) if wanted.keys else None,
            scale=(dscale / 2 if problem.self_similarity else dscale) if wanted.scale else None,
            row_bias=ds.sum(2) if wanted.row_bias else None,
            col_bias=ds.sum(1) if wanted.col_bias else None,
            row_term=problem.scale * drow_term if wanted.row_term and drow_term is not None else None,
            col_term=problem.scale * dcol_term if wanted.col_term and dcol_term is not None else None,
        )

    def total_and_gradients(self, problem: Problem, outer: Outer, wanted: Wanted) -> tuple[Tensor, Gradients]:
        return total_and_gradients(self, problem, outer, wanted)


def _sum_of_pairs(problem: Problem, side: int, products: Tensor, wanted: Wanted) -> Tensor:
    """scale times the sum of `products [B, P, n, D]` over the pairs of each vector of one side, `[B, V, n, D]`."""
    vectors = (problem.rows, problem.cols)[side].vectors
    gradient = products.new_zeros(vectors.shape)
    for p, pair in enumerate(problem.pairs):
        gradient[:, pair[side]] += products[:, p]
    return (problem.scale * gradient).to(wanted.dtype or problem.dtype)

"""Chunked PyTorch on any device: blocks of scores in one bounded, reused workspace."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from contrastive_ops.backends.base import Wanted
from contrastive_ops.problem import Gradients, Problem, Statistics
from contrastive_ops.relations import Relation
from contrastive_ops.scores import ScoreKind

BLOCK_N = 8192  # columns of a block; wide enough for full matmul speed
BLOCK_BYTES = 16 * 1024 * 1024  # one block of scores; two are alive at a time


class EagerBackend:
    name = "eager"
    summary = "chunked PyTorch, any device; O((M+N)*D) memory"

    def missing(self) -> str | None:
        return None

    def reasons(self, problem: Problem) -> list[str]:
        return []

    def state_bytes(self, problem: Problem) -> int:
        return 0

    def forward(self, problem: Problem) -> tuple[Statistics, Tensor | None]:
        batch, m, n, _ = problem.sizes
        dtype = problem.statistics_dtype
        new = problem.scale.new_empty
        row_lse = new((batch, m), dtype=dtype).fill_(-torch.inf) if problem.rows else None
        col_lse = new((batch, n), dtype=dtype).fill_(-torch.inf) if problem.columns else None
        has_sums = problem.positives is not None
        row_sum = new((batch, m), dtype=dtype).zero_() if problem.rows and has_sums else None
        col_sum = new((batch, n), dtype=dtype).zero_() if problem.columns and has_sums else None
        for b, rows, cols, _, scores, spare in score_blocks(problem):
            if problem.positives is not None:
                mask = _block_mask(problem.positives, b, rows, cols, problem)
                spare.copy_(scores)
                if mask is not None:
                    spare.masked_fill_(~mask, 0.0)
                if row_sum is not None:
                    row_sum[b, rows] += spare.sum(1)
                if col_sum is not None:
                    col_sum[b, cols] += spare.sum(0)
            candidates = _block_mask(problem.candidates, b, rows, cols, problem)
            if candidates is not None:
                scores.masked_fill_(~candidates, -torch.inf)
            if row_lse is not None:
                row_lse[b, rows] = torch.logaddexp(row_lse[b, rows], _lse(scores, 1, spare))
            if col_lse is not None:
                col_lse[b, cols] = torch.logaddexp(col_lse[b, cols], _lse(scores, 0, spare))
        return Statistics(row_lse, row_sum, col_lse, col_sum), None

    def backward(
        self, problem: Problem, statistics: Statistics, upstream: Statistics, state: Tensor, wanted: Wanted
    ) -> Gradients:
        dtype = problem.statistics_dtype

        def zeros(like: Tensor, want: bool) -> Tensor | None:
            return like.new_zeros(like.shape, dtype=dtype) if want else None

        # accumulated without the factor `scale`, so that scale = 0 still has a gradient; dscale needs one of the two
        needs_dq = wanted.queries or (wanted.scale and not wanted.keys and problem.score.kind is ScoreKind.DOT)
        dq = zeros(problem.queries, needs_dq)
        dk = zeros(problem.keys, wanted.keys)
        drow = zeros(problem.row_bias, wanted.row_bias) if problem.row_bias is not None else None
        dcol = zeros(problem.col_bias, wanted.col_bias) if problem.col_bias is not None else None
        row_term, col_term = problem.score.row_term, problem.score.col_term
        drow_term = zeros(row_term, wanted.row_term) if row_term is not None else None
        dcol_term = zeros(col_term, wanted.col_term or wanted.scale) if col_term is not None else None
        row_lse, col_lse = _lse_for_exp(statistics.row_lse), _lse_for_exp(statistics.col_lse)

        for b, rows, cols, products, scores, spare in score_blocks(problem):
            q = problem.queries[b, rows].to(dtype)
            ds = _block_gradient(problem, b, rows, cols, scores, spare, row_lse, col_lse, upstream)
            weights, block_row_term, block_col_term = problem.score.block(b, rows, cols).gradient(products, ds)
            for bank in range(problem.banks):
                # self-similarity: one tensor in two roles, queries collects both
                if dq is not None:
                    dq[b, rows] += weights[bank] @ _bank(problem.keys, b, bank)[cols].to(dtype)
                    if problem.self_similarity:
                        dq[b, cols] += weights[bank].mT @ q
                if dk is not None:
                    _bank(dk, b, bank)[cols] += weights[bank].mT @ q
            if drow is not None:
                drow[b, rows] += ds.sum(1)
                if problem.self_similarity:
                    drow[b, cols] += ds.sum(0)
            if dcol is not None:
                dcol[b, cols] += ds.sum(0)
            if drow_term is not None and block_row_term is not None:
                drow_term[b, rows] += block_row_term
            if dcol_term is not None and block_col_term is not None:
                dcol_term[b, cols] += block_col_term

        dscale = None
        if wanted.scale:
            if col_term is not None:
                # the volume is linear in its column's term: dscale = sum_j col_term_j dcol_term_j
                source, grad = col_term, dcol_term
            else:
                # dscale = sum_ij dS_ij <q_i, k_j> = <Q, dS K>; self-similarity counts every pair in both roles
                source, grad = (problem.queries, dq) if dq is not None else (problem.keys, dk)
            assert grad is not None
            dscale = (source.to(dtype) * grad).sum(dtype=torch.float64).to(dtype)
            if problem.self_similarity:
                dscale = dscale / 2

        def finish(grad: Tensor | None, like: Tensor | None, want: bool) -> Tensor | None:
            if grad is None or like is None or not want:
                return None
            return grad.mul_(problem.scale).to(wanted.dtype or like.dtype)

        return Gradients(
            finish(dq, problem.queries, wanted.queries),
            finish(dk, problem.keys, wanted.keys),
            dscale,
            drow,
            dcol,
            finish(drow_term, row_term, wanted.row_term),
            finish(dcol_term, col_term, wanted.col_term),
        )


def _bank(keys: Tensor, b: int, bank: int) -> Tensor:
    """`[N, D]` of `[B, N, D]` or `[B, K, N, D]`."""
    return keys[b, bank] if keys.dim() == 4 else keys[b]


def score_blocks(problem: Problem) -> Iterator[tuple[int, slice, slice, Tensor, Tensor, Tensor]]:
    """Yields (b, rows, cols, products [K, m, n], scores [m, n], spare [m, n]); all are reused for the next block. The
    products of a dot score are its scores."""
    batch, m, n, _ = problem.sizes
    dtype, banks = problem.statistics_dtype, problem.banks
    is_dot = problem.score.kind is ScoreKind.DOT
    alive = 2 if is_dot else 3 * banks + 4  # blocks of this size: buffers and what a volume is computed with
    block_n = max(1, min(n, BLOCK_N))
    block_m = max(1, min(m, 2 * BLOCK_BYTES // (alive * block_n * dtype.itemsize)))
    workspace = problem.scale.new_empty((banks + 1, block_m * block_n), dtype=dtype)
    for b in range(batch):
        for i in range(0, m, block_m):
            rows = slice(i, min(i + block_m, m))
            q = problem.queries[b, rows].to(dtype)
            if is_dot:  # fewer numbers to multiply than there are scores
                q = q * problem.scale
            for j in range(0, n, block_n):
                cols = slice(j, min(j + block_n, n))
                shape = (rows.stop - rows.start, cols.stop - cols.start)
                *products, spare = (buffer[: shape[0] * shape[1]].view(shape) for buffer in workspace)
                for bank, product in enumerate(products):
                    torch.mm(q, _bank(problem.keys, b, bank)[cols].to(dtype).mT, out=product)
                stacked = workspace[:banks, : shape[0] * shape[1]].view(banks, *shape)
                scores = problem.score.block(b, rows, cols).value(stacked)
                if not is_dot:
                    scores *= problem.scale
                if problem.row_bias is not None:
                    scores += problem.row_bias[b, rows, None]
                if problem.col_bias is not None:
                    scores += problem.col_bias[b, None, cols]
                yield b, rows, cols, stacked, scores, spare


def _block_mask(relation: Relation, b: int, rows: slice, cols: slice, problem: Problem) -> Tensor | None:
    mask = relation.mask(rows, cols, problem.queries.device)
    if mask is None or mask.dim() == 2:
        return mask
    return mask[b if mask.shape[0] > 1 else 0]


def _lse(scores: Tensor, dim: int, spare: Tensor) -> Tensor:
    """log-sum-exp in the spare buffer; -inf for an all-masked line, NaN only where the line has one."""
    top = scores.amax(dim, keepdim=True)
    shift = top.masked_fill(top.abs() == torch.inf, 0.0)
    torch.sub(scores, shift, out=spare)
    return spare.exp_().sum(dim).log_() + shift.squeeze(dim)


def _lse_for_exp(lse: Tensor | None) -> Tensor | None:
    """-inf (no candidates) becomes +inf: exp(s - lse) is then 0, as the gradient must be."""
    return None if lse is None else lse.masked_fill(lse == -torch.inf, torch.inf)


def _block_gradient(
    problem: Problem,
    b: int,
    rows: slice,
    cols: slice,
    scores: Tensor,
    spare: Tensor,
    row_lse: Tensor | None,
    col_lse: Tensor | None,
    upstream: Statistics,
) -> Tensor:
    """dS_ij = cand_ij (g_i exp(s_ij - lse_i) + h_j exp(s_ij - lse_j)) + pos_ij (a_i + b_j), [m, n]."""
    ds = torch.zeros_like(scores)
    if row_lse is not None and upstream.row_lse is not None:
        torch.sub(scores, row_lse[b, rows, None], out=spare)
        ds.addcmul_(spare.exp_(), upstream.row_lse[b, rows, None])
    if col_lse is not None and upstream.col_lse is not None:
        torch.sub(scores, col_lse[b, None, cols], out=spare)
        ds.addcmul_(spare.exp_(), upstream.col_lse[b, None, cols])
    candidates = _block_mask(problem.candidates, b, rows, cols, problem)
    if candidates is not None:
        ds.masked_fill_(~candidates, 0.0)
    if problem.positives is not None and (upstream.row_sum is not None or upstream.col_sum is not None):
        positives = _block_mask(problem.positives, b, rows, cols, problem)
        spare.zero_()
        if upstream.row_sum is not None:
            spare += upstream.row_sum[b, rows, None]
        if upstream.col_sum is not None:
            spare += upstream.col_sum[b, None, cols]
        if positives is not None:
            spare.masked_fill_(~positives, 0.0)
        ds += spare
    return ds

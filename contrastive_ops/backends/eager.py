"""Chunked PyTorch on any device: blocks of scores in one bounded, reused workspace."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from contrastive_ops.backends.base import Outer, Wanted
from contrastive_ops.backends.panels import total_and_gradients
from contrastive_ops.problem import Gradients, Problem, Results
from contrastive_ops.reductions import Reduced, Reduction
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

    def forward(self, problem: Problem) -> tuple[Results, Tensor | None]:
        results = problem.neutral_results()
        # what changes the scores comes last, the others first
        order = sorted(range(len(problem.reductions)), key=lambda i: problem.reductions[i].overwrites)
        for block in score_blocks(problem):
            for i in order:
                reduction = block.part.reductions[i]
                scores = reduction.scaled(block.scores)
                if reduction.overwrites and i != order[-1] and scores is block.scores:
                    scores = scores.clone()
                found = reduction.take(scores, block.mask(reduction), reduction.dims, block.spare)
                for value, dim in zip(found, reduction.dims, strict=True):
                    line = block.lines(results[i], dim)
                    line.copy_(reduction.merge(line, value))
        return results, None

    def backward(
        self, problem: Problem, results: Results, upstream: Results, state: Tensor, wanted: Wanted
    ) -> Gradients:
        dtype = problem.statistics_dtype

        def zeros(like: Tensor | None, want: bool) -> Tensor | None:
            return like.new_zeros(like.shape, dtype=dtype) if want and like is not None else None

        # accumulated without the factor `scale`, so that scale = 0 still has a gradient; dscale needs one of the two
        score, rows, cols = problem.score, problem.rows, problem.cols
        from_products = wanted.scale and score.is_linear_in_products
        dq = zeros(rows.vectors, wanted.queries or (from_products and not wanted.keys))
        dk = zeros(cols.vectors, wanted.keys)
        drow, dcol = zeros(rows.bias, wanted.row_bias), zeros(cols.bias, wanted.col_bias)
        drow_term = zeros(score.row_term, wanted.row_term)
        dcol_term = zeros(score.col_term, wanted.col_term or (wanted.scale and not from_products))

        for block in score_blocks(problem):
            entry, at_rows, at_cols = block.entry, block.rows, block.cols
            ds = _block_gradient(block, results, upstream)
            weights, block_row_term, block_col_term = block.part.score.gradient(block.products, ds)
            for (r, c), weight in zip(problem.pairs, weights, strict=True):
                q, k = (side.vectors[v].to(dtype) for side, v in ((block.part.rows, r), (block.part.cols, c)))
                # self-similarity: one tensor in two roles, queries collects both
                if dq is not None:
                    dq[entry, r, at_rows] += weight @ k
                    if problem.self_similarity:
                        dq[entry, c, at_cols] += weight.mT @ q
                if dk is not None:
                    dk[entry, c, at_cols] += weight.mT @ q
            if drow is not None:
                drow[entry, at_rows] += ds.sum(1)
                if problem.self_similarity:
                    drow[entry, at_cols] += ds.sum(0)
            if dcol is not None:
                dcol[entry, at_cols] += ds.sum(0)
            if drow_term is not None and block_row_term is not None:
                drow_term[entry, at_rows] += block_row_term
            if dcol_term is not None and block_col_term is not None:
                dcol_term[entry, at_cols] += block_col_term

        dscale = None
        if wanted.scale:
            source: Tensor | None
            gradient: Tensor | None
            if from_products:
                # dscale = sum_ij dS_ij <q_i, k_j> = <Q, dS K>; self-similarity counts every pair in both roles
                source, gradient = (rows.vectors, dq) if dq is not None else (cols.vectors, dk)
            else:
                # the score is linear in its column's term: dscale = sum_j col_term_j dcol_term_j
                source, gradient = score.col_term, dcol_term
            assert source is not None and gradient is not None
            dscale = (source.to(dtype) * gradient).sum(dtype=torch.float64).to(dtype)
            if problem.self_similarity:
                dscale = dscale / 2

        def finish(gradient: Tensor | None, like: Tensor | None, want: bool) -> Tensor | None:
            if gradient is None or like is None or not want:
                return None
            return gradient.mul_(problem.scale).to(wanted.dtype or like.dtype)

        return Gradients(
            finish(dq, rows.vectors, wanted.queries),
            finish(dk, cols.vectors, wanted.keys),
            dscale,
            drow,
            dcol,
            finish(drow_term, score.row_term, wanted.row_term),
            finish(dcol_term, score.col_term, wanted.col_term),
        )

    def total_and_gradients(self, problem: Problem, outer: Outer, wanted: Wanted) -> tuple[Tensor, Gradients]:
        return total_and_gradients(self, problem, outer, wanted)


class Block(NamedTuple):
    """A block of the scores of one batch entry; its memory is used again for the next."""

    part: Problem  # of its lines alone
    entry: int
    rows: slice
    cols: slice
    products: Tensor  # [P, m, n]; of a dot score its scores
    scores: Tensor  # [m, n]
    spare: Tensor  # [m, n]

    def mask(self, reduction: Reduction) -> Tensor | None:
        """Bool `[m, n]`; None where every pair belongs."""
        m, n = self.scores.shape
        mask = reduction.relation.mask(m, n, self.scores.device)
        return mask if mask is None or mask.dim() == 2 else mask.squeeze(0)

    def lines(self, results: Reduced, dim: int) -> Tensor:
        """Its rows' numbers (dim -1) or its columns' (-2) among those of all."""
        found = results.rows if dim == -1 else results.columns
        assert found is not None
        return found[self.entry, self.rows if dim == -1 else self.cols]

    def of(self, results: Reduced) -> Reduced:
        """Those of its own lines."""
        rows, columns = results
        return Reduced(
            None if rows is None else rows[self.entry, self.rows],
            None if columns is None else columns[self.entry, self.cols],
        )


def score_blocks(problem: Problem) -> Iterator[Block]:
    """Block after block of the matrix of every entry."""
    batch, m, n, _ = problem.sizes
    dtype, pairs, score = problem.statistics_dtype, problem.pairs, problem.score
    scale_queries = score.kind is ScoreKind.DOT  # fewer numbers to multiply than there are scores
    alive = (
        2 if scale_queries else 3 * len(pairs) + 4
    )  # blocks of this size: buffers and what a volume is computed with
    block_n = max(1, min(n, BLOCK_N))
    block_m = max(1, min(m, 2 * BLOCK_BYTES // (alive * block_n * dtype.itemsize)))
    workspace = problem.scale.new_empty((len(pairs) + 1, block_m * block_n), dtype=dtype)
    for b in range(batch):
        for i in range(0, m, block_m):
            rows = slice(i, min(i + block_m, m))
            queries = problem.rows.vectors[b, :, rows].to(dtype)
            if scale_queries:
                queries = queries * problem.scale
            for j in range(0, n, block_n):
                cols = slice(j, min(j + block_n, n))
                part = problem.select(rows, cols, slice(b, b + 1)).entry()
                shape = (rows.stop - rows.start, cols.stop - cols.start)
                *products, spare = (buffer[: shape[0] * shape[1]].view(shape) for buffer in workspace)
                for (r, c), product in zip(pairs, products, strict=True):
                    torch.mm(queries[r], part.cols.vectors[c].to(dtype).mT, out=product)
                stacked = workspace[: len(pairs), : shape[0] * shape[1]].view(len(pairs), *shape)
                scores = part.score.value(stacked)
                if not scale_queries:
                    scores *= problem.scale
                if part.rows.bias is not None:
                    scores += part.rows.bias[:, None]
                if part.cols.bias is not None:
                    scores += part.cols.bias[None, :]
                yield Block(part, b, rows, cols, stacked, scores, spare)


def _block_gradient(block: Block, results: Results, upstream: Results) -> Tensor:
    """dS_ij = sum over reductions of factor * slope_ij, [m, n]."""
    ds: Tensor | None = None
    for reduction, result, given in zip(block.part.reductions, results, upstream, strict=True):
        if all(value is None for value in given):
            continue
        scores, mask = reduction.scaled(block.scores), block.mask(reduction)
        slope = reduction.scaled(reduction.slope(scores, mask, block.of(result), block.of(given), block.spare))
        if ds is not None:
            ds += slope
        else:
            ds = slope.clone() if slope is block.spare else slope
    return torch.zeros_like(block.scores) if ds is None else ds

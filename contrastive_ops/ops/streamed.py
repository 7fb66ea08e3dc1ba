"""Log-sum-exp over keys that come in chunks and are never held whole; each chunk is visited once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from contrastive_ops.backends import check_backend_name
from contrastive_ops.check import autocast, check_embeddings, check_scale
from contrastive_ops.form import flatten
from contrastive_ops.ops.lse_gradient import QUERIES, lse_and_gradient, row_lse_problem
from contrastive_ops.ops.once import differentiable_once
from contrastive_ops.ops.rule import Rule, refuse_transformed
from contrastive_ops.ops.transforms import is_transformed, requires_grad
from contrastive_ops.problem import DEFAULT_WORKSPACE_BYTES, Problem, statistics_dtype
from contrastive_ops.reductions import LogSumExp

CHUNK_ROWS = 65536  # a tensor of keys is walked in slices of this many rows


def streamed_row_lse(
    queries: Tensor,
    chunks: Iterable[Tensor],
    *,
    scale: float | Tensor = 1.0,
    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES,
    backend: str | None = None,
) -> Tensor:
    """lse_i = log sum_j exp(scale * <q_i, k_j>) over all keys of all chunks, each visited once.

    Where FlashAttention accumulates the softmax-weighted mean of the values, this accumulates the softmax-weighted
    mean of the keys u_i = sum_j p_ij k_j: that is all that backward needs,

        dq_i = g_i * scale * u_i            dscale = sum_i g_i <q_i, u_i>

    so no chunk is needed again and nothing of it is kept. Memory: O(M*D) and one chunk.

    Args:
        queries: `[M, D]`.
        chunks: an iterable of `[K_c, D]` tensors (a queue, a memory bank, slices of a memory-mapped array), **without
            gradient**; K_c may differ. Chunks of another floating dtype or device are cast and moved one at a time. An
            iterator (a generator) serves one call: make it anew for the next, or give a sequence.
        scale: float or one-element tensor, with gradient.

    Returns:
        `[M]`, float32 (float64 for float64 queries); -inf where there is no key at all.

    Raises:
        ValueError, TypeError: naming got and expected; ValueError for no chunk at all where that is no sequence.
    """
    check_embeddings("queries", queries)
    if queries.dim() != 2:
        raise ValueError(f"queries must be [M, D] beside streamed chunks, got shape {tuple(queries.shape)}")
    scale_tensor = check_scale(scale, queries.device, statistics_dtype(queries.dtype))
    if not isinstance(chunks, Iterable):
        raise TypeError(f"chunks must be an iterable of tensors, got {type(chunks).__name__}")
    check_backend_name(backend)
    transformed = is_transformed()
    if not isinstance(chunks, Sequence):
        chunks = _begun(iter(chunks))
    if transformed:  # which hands on what it can see, one by one
        chunks = list(chunks)
    # refuse before any work, and where a transform still shows who asks for a gradient; others are checked as they come
    if isinstance(chunks, Sequence):
        for chunk in chunks:
            _check_chunk(chunk, queries)
    if transformed:
        refuse_transformed(*chunks)
    needs_grad = torch.is_grad_enabled() and requires_grad(queries, scale_tensor)
    lse: Tensor
    (lse,) = _StreamedRowLse.apply(autocast(queries), scale_tensor, chunks, workspace_bytes, backend, needs_grad)
    return lse


def split_rows(keys: Tensor) -> Sequence[Tensor]:
    """Slices of at most `CHUNK_ROWS` rows, so that a memory-mapped tensor is read piece by piece."""
    if torch.compiler.is_compiling():  # a loop over slices would fix the number of rows in the graph
        return [keys]
    return [keys[start : start + CHUNK_ROWS] for start in range(0, keys.shape[0], CHUNK_ROWS)]


def _begun(chunks: Iterator[Tensor]) -> Iterator[Tensor]:
    """The same chunks, the first of which has been seen: one that is used up would be a loss of 0 without a word."""
    first = next(chunks, None)
    if first is None:
        raise ValueError(
            "got an iterable without any chunk, expected at least one: an iterator is used up by one call. Make a new "
            "one for every step, closure and recomputation, or give a sequence such as bank.split(8192)"
        )
    return _resumed(first, chunks)


def _resumed(first: Tensor, others: Iterator[Tensor]) -> Iterator[Tensor]:
    yield first
    del first  # one chunk is held at a time
    yield from others


class _StreamedRowLse(Rule):
    @staticmethod
    def run(queries, scale, chunks, workspace_bytes, backend, needs_grad):  # type: ignore[no-untyped-def]
        # the scale is folded into the queries: the gradient of the folded queries is then u itself, also at scale 0
        folded = queries.to(scale.dtype) * scale
        lse, mean = _lse_and_mean(folded, chunks, workspace_bytes if needs_grad else 0, backend, with_mean=needs_grad)
        return (lse,), (mean,)

    @staticmethod
    def keep(ctx: Any, args, outputs, kept):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(*args[:2], *kept)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, saved, d_lse):  # type: ignore[no-untyped-def]
        queries, scale, mean = saved
        needs_queries, needs_scale = ctx.needs_input_grad[:2]
        # dq_i = g_i * scale * u_i
        dqueries = (mean * (d_lse * scale)[:, None]).to(queries.dtype) if needs_queries else None
        # dscale = sum_i g_i <q_i, u_i>
        dscale = (mean * queries * d_lse[:, None]).sum() if needs_scale else None
        return dqueries, dscale, None, None, None, None


def _lse_and_mean(
    scaled: Tensor, chunks: Iterable[Tensor], workspace_bytes: int, backend: str | None, *, with_mean: bool
) -> tuple[Tensor, Tensor | None]:
    """(lse [M], softmax-weighted mean of all keys [M, D] or None) for queries that hold the scale."""
    lse = scaled.new_full((scaled.shape[0],), -torch.inf)
    mean = torch.zeros_like(scaled) if with_mean else None
    for chunk in chunks:
        problem = _chunk_problem(scaled, chunk, workspace_bytes)
        chunk_lse, chunk_mean = _chunk_lse_and_mean(problem, backend, with_mean)
        merged = LogSumExp.merge(lse, chunk_lse)
        if mean is not None and chunk_mean is not None:
            # u = sum_c exp(lse_c - lse) u_c
            mean.mul_(_share(lse, merged)[:, None]).addcmul_(chunk_mean, _share(chunk_lse, merged)[:, None])
        lse = merged
    return lse, mean


def _share(part: Tensor, merged: Tensor) -> Tensor:
    """exp(part - merged); 0 while nothing has been seen, where it would be exp(-inf + inf)."""
    return torch.where(merged == -torch.inf, 0.0, (part - merged).exp())


def _check_chunk(chunk: Tensor, queries: Tensor) -> None:
    check_embeddings("every chunk of negatives", chunk)
    if chunk.dim() != 2 or chunk.shape[1] != queries.shape[1]:
        raise ValueError(f"every chunk must be [K_c, D={queries.shape[1]}], got shape {tuple(chunk.shape)}")
    if requires_grad(chunk):
        raise ValueError("a streamed chunk requires grad, expected none: detach it, or pass a tensor or a sequence")


def _chunk_problem(scaled: Tensor, chunk: Tensor, workspace_bytes: int) -> Problem:
    _check_chunk(chunk, scaled)
    # a literal scale: torch.compile makes a symbol of a default, which a nested graph cannot take for a number
    return row_lse_problem(scaled, chunk.to(scaled), None, workspace_bytes, scale=1.0)


def _chunk_lse_and_mean(problem: Problem, backend: str | None, with_mean: bool) -> tuple[Tensor, Tensor | None]:
    if with_mean:  # the gradient of sum_i lse_i in the (folded) queries is the mean itself
        lse, _, mean = lse_and_gradient(flatten(problem, problem.workspace_bytes), backend, QUERIES)
        return lse, mean
    return torch.ops.contrastive_ops.reduce(*flatten(problem, 0), backend)[0], None

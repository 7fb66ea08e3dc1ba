"""K data vectors of a column as the kernels want them: banks of keys, a volume, and how products are mixed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from contrastive_ops.ops.once import differentiable_once
from contrastive_ops.ops.span import float64_chunks, outside, span, volume_gradient
from contrastive_ops.problem import statistics_dtype

torch.library.define(
    "contrastive_ops::span_banks", "(Tensor[] modalities) -> (Tensor banks, Tensor volume, Tensor mixing)"
)
torch.library.define(
    "contrastive_ops::span_banks_backward", "(Tensor[] modalities, Tensor? dbanks, Tensor? dvolume) -> Tensor"
)


def span_banks(modalities: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """What the columns of a volume score are made of: banks `[.., K, N, D]`, volume `[.., N]` and mixing
    `[.., K(K+1)/2, N]` (see `Score`), from K tensors `[.., N, D]`.

    The banks are an orthonormal basis, with the identity for mixing, where the dtype can hold one; half precision
    cannot, and keeps the vectors themselves, with L^-1 for mixing. The gradient holds for functions of span and volume,
    such as that score, not for functions of the basis itself.
    """
    banks: tuple[Tensor, Tensor, Tensor] = _SpanBanks.apply(*modalities)  # type: ignore[no-untyped-call]
    return banks


class _SpanBanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *modalities):  # type: ignore[no-untyped-def]
        banks, volume, mixing = torch.ops.contrastive_ops.span_banks(list(modalities))
        ctx.save_for_backward(*modalities)
        ctx.mark_non_differentiable(mixing)
        ctx.set_materialize_grads(False)
        return banks, volume, mixing

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, dbanks, dvolume, _):  # type: ignore[no-untyped-def]
        modalities = list(ctx.saved_tensors)
        if dbanks is None and dvolume is None:
            return (None,) * len(modalities)
        gradients = torch.ops.contrastive_ops.span_banks_backward(modalities, dbanks, dvolume).unbind(0)
        return tuple(g if want else None for g, want in zip(gradients, ctx.needs_input_grad, strict=True))


def _new_banks(modalities: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    first, count = modalities[0], len(modalities)
    *batch, n, d = first.shape
    dtype = statistics_dtype(first.dtype)
    # what belongs to one column lies together
    return (
        first.new_empty((*batch, n, count, d)).transpose(-3, -2),
        first.new_empty((*batch, n), dtype=dtype),
        first.new_empty((*batch, n, count * (count + 1) // 2), dtype=dtype).mT,
    )


def _new_gradients(modalities: list[Tensor], dbanks: Tensor | None, dvolume: Tensor | None) -> Tensor:
    first = modalities[0]
    return first.new_empty((len(modalities), *first.shape))


torch.library.register_fake("contrastive_ops::span_banks")(_new_banks)
torch.library.register_fake("contrastive_ops::span_banks_backward")(_new_gradients)


def _holds_basis(dtype: torch.dtype) -> bool:
    return dtype == statistics_dtype(dtype)


@torch.library.impl("contrastive_ops::span_banks", "CompositeExplicitAutograd")
def _span_banks(modalities):  # type: ignore[no-untyped-def]
    banks, volume, mixing = _new_banks(modalities)
    count, d = len(modalities), banks.shape[-1]
    bank_rows, mixing_rows = banks.transpose(-3, -2).view(-1, count, d), mixing.mT.view(-1, mixing.shape[-2])
    r, s = torch.tril_indices(count, count, device=banks.device)
    for rows, vectors in float64_chunks(modalities):
        found = span(vectors)
        is_basis = _holds_basis(banks.dtype)
        volume.view(-1)[rows] = found.volume.to(volume.dtype)
        bank_rows[rows] = (found.basis if is_basis else vectors).to(banks.dtype)
        mixing_rows[rows] = (torch.eye(count).to(mixing)[r, s] if is_basis else found.inverse[:, r, s]).to(mixing.dtype)
    return banks, volume, mixing


@torch.library.impl("contrastive_ops::span_banks_backward", "CompositeExplicitAutograd")
def _span_banks_backward(modalities, dbanks, dvolume):  # type: ignore[no-untyped-def]
    """dX = dbeta * beta * L^-T Y + (I - Y^T Y) G, where G is L^-T dY in a basis, and the banks' own gradient where the
    banks are the vectors."""
    gradients = _new_gradients(modalities, dbanks, dvolume)
    count, d = len(modalities), gradients.shape[-1]
    out = gradients.view(count, -1, d)
    given = None if dbanks is None else dbanks.transpose(-3, -2).reshape(-1, count, d)
    for rows, vectors in float64_chunks(modalities):
        found = span(vectors)
        part = torch.zeros_like(vectors)
        if given is not None:
            part = outside(found, given[rows].to(torch.float64))
            if _holds_basis(gradients.dtype):
                part = found.inverse.mT @ part
        if dvolume is not None:
            part = part + volume_gradient(found, dvolume.reshape(-1)[rows])
        out[:, rows] = part.transpose(0, 1).to(gradients.dtype)
    return gradients

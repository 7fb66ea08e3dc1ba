"""K data vectors of a column as the kernels want them: banks of keys, a volume, and how products are mixed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from contrastive_ops.ops.once import differentiable_once
from contrastive_ops.ops.span import float64_chunks, outside, span_, span_again, volume_gradient
from contrastive_ops.problem import statistics_dtype

torch.library.define(
    "contrastive_ops::span_banks",
    "(Tensor[] modalities) -> (Tensor banks, Tensor volume, Tensor mixing, Tensor inverse)",
)
torch.library.define(
    "contrastive_ops::span_banks_backward",
    "(Tensor[] modalities, Tensor inverse, Tensor? dbanks, Tensor? dvolume) -> Tensor",
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
        banks, volume, mixing, inverse = torch.ops.contrastive_ops.span_banks(list(modalities))
        ctx.save_for_backward(inverse, *modalities)
        ctx.mark_non_differentiable(mixing)
        ctx.set_materialize_grads(False)
        return banks, volume, mixing

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, dbanks, dvolume, _):  # type: ignore[no-untyped-def]
        inverse, *modalities = ctx.saved_tensors
        if dbanks is None and dvolume is None:
            return (None,) * len(modalities)
        gradients = torch.ops.contrastive_ops.span_banks_backward(modalities, inverse, dbanks, dvolume).unbind(0)
        return tuple(g if want else None for g, want in zip(gradients, ctx.needs_input_grad, strict=True))


def _new_banks(modalities: list[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    first, count = modalities[0], len(modalities)
    *batch, n, d = first.shape
    dtype = statistics_dtype(first.dtype)
    # what belongs to one column lies together
    return (
        first.new_empty((*batch, n, count, d)).transpose(-3, -2),
        first.new_empty((*batch, n), dtype=dtype),
        first.new_empty((*batch, n, count * (count + 1) // 2), dtype=dtype).mT,
        first.new_empty((*batch, n, count, count), dtype=torch.float64),
    )


def _new_gradients(modalities: list[Tensor], inverse: Tensor, dbanks: Tensor | None, dvolume: Tensor | None) -> Tensor:
    first = modalities[0]
    return first.new_empty((len(modalities), *first.shape))


torch.library.register_fake("contrastive_ops::span_banks")(_new_banks)
torch.library.register_fake("contrastive_ops::span_banks_backward")(_new_gradients)


def _holds_basis(dtype: torch.dtype) -> bool:
    return dtype == statistics_dtype(dtype)


@torch.library.impl("contrastive_ops::span_banks", "CompositeExplicitAutograd")
def _span_banks(modalities):  # type: ignore[no-untyped-def]
    banks, volume, mixing, inverse = _new_banks(modalities)
    count, d = len(modalities), banks.shape[-1]
    bank_rows, mixing_rows = banks.transpose(-3, -2).view(-1, count, d), mixing.mT.view(-1, mixing.shape[-2])
    r, s = torch.tril_indices(count, count, device=banks.device)
    is_basis = _holds_basis(banks.dtype)
    if is_basis:
        mixing_rows[...] = torch.eye(count).to(mixing)[r, s]
    else:
        torch.stack(modalities, -2, out=banks.transpose(-3, -2))
    for rows, vectors in float64_chunks(modalities):
        found = span_(vectors)
        volume.view(-1)[rows] = found.volume
        inverse.view(-1, count, count)[rows] = found.inverse
        if is_basis:
            bank_rows[rows] = found.basis
        else:
            mixing_rows[rows] = found.inverse[:, r, s]
    return banks, volume, mixing, inverse


@torch.library.impl("contrastive_ops::span_banks_backward", "CompositeExplicitAutograd")
def _span_banks_backward(modalities, inverse, dbanks, dvolume):  # type: ignore[no-untyped-def]
    """dX = dbeta * beta * L^-T Y + (I - Y^T Y) G, where G is L^-T dY in a basis, and the banks' own gradient where the
    banks are the vectors."""
    gradients = _new_gradients(modalities, inverse, dbanks, dvolume)
    count, d = len(modalities), gradients.shape[-1]
    out, inverses = gradients.view(count, -1, d), inverse.view(-1, count, count)
    given = None if dbanks is None else dbanks.transpose(-3, -2).reshape(-1, count, d)
    for rows, vectors in float64_chunks(modalities):
        found = span_again(vectors, inverses[rows])
        part = torch.zeros_like(vectors) if dvolume is None else volume_gradient(found, dvolume.reshape(-1)[rows])
        if given is not None:
            of_span = outside(found, given[rows].to(torch.float64))
            part += torch.bmm(found.inverse.mT, of_span) if _holds_basis(gradients.dtype) else of_span
        out[:, rows] = part.transpose(0, 1)
    return gradients

"""What volumes need of every tuple of vectors, from one Gram-Schmidt: banks of keys for the kernels, and volumes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from contrastive_ops.ops.once import differentiable_once
from contrastive_ops.ops.span import float64_chunks, outside, span_, span_again, volume_gradient
from contrastive_ops.problem import statistics_dtype

torch.library.define(
    "contrastive_ops::tuple_spans",
    "(Tensor[] vectors, int data) -> (Tensor banks, Tensor data_volume, Tensor mixing, Tensor volume, Tensor inverse)",
)
torch.library.define(
    "contrastive_ops::tuple_spans_backward",
    "(Tensor[] vectors, int data, Tensor inverse, Tensor? dbanks, Tensor? ddata_volume, Tensor? dvolume) -> Tensor",
)


class TupleSpans(NamedTuple):
    """Of tuples `[.., N]`. What there is nothing of is an empty tensor: a volume of no vectors, or the volume of all
    where all are data vectors."""

    banks: Tensor  # [.., K, N, D]: see `tuple_spans`
    data_volume: Tensor  # [.., N], of the K data vectors
    mixing: Tensor  # [.., K(K+1)/2, N]: see `Score`
    volume: Tensor  # [.., N], of all vectors


def tuple_spans(vectors: Sequence[Tensor], data: int) -> TupleSpans:
    """Spans of N tuples of vectors, tensors `[.., N, D]`; the first K = `data` of each are a column's data vectors.

    The banks are an orthonormal basis of the data vectors, with the identity for mixing, where the dtype can hold one;
    half precision cannot, and keeps the vectors themselves, with L^-1 for mixing. Their gradient holds for functions of
    span and volume, such as the volume score, not for functions of the basis itself.
    """
    outputs: tuple[Tensor, ...] = _TupleSpans.apply(data, *vectors)  # type: ignore[no-untyped-call]
    return TupleSpans(*outputs)


class _TupleSpans(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, data, *vectors):  # type: ignore[no-untyped-def]
        *spans, inverse = torch.ops.contrastive_ops.tuple_spans(list(vectors), data)
        ctx.save_for_backward(inverse, *vectors)
        ctx.data = data
        ctx.mark_non_differentiable(TupleSpans(*spans).mixing)
        ctx.set_materialize_grads(False)
        return tuple(spans)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, dbanks, ddata_volume, _, dvolume):  # type: ignore[no-untyped-def]
        inverse, *vectors = ctx.saved_tensors
        if dbanks is None and ddata_volume is None and dvolume is None:
            return (None,) * (1 + len(vectors))
        gradients = torch.ops.contrastive_ops.tuple_spans_backward(
            vectors, ctx.data, inverse, dbanks, ddata_volume, dvolume
        ).unbind(0)
        wanted = ctx.needs_input_grad[1:]
        return None, *(g if want else None for g, want in zip(gradients, wanted, strict=True))


def _new_spans(vectors: list[Tensor], data: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    first, count = vectors[0], len(vectors)
    *batch, n, d = first.shape
    dtype = statistics_dtype(first.dtype)
    nothing = first.new_empty((0,), dtype=dtype)
    # what belongs to one column lies together
    return (
        first.new_empty((*batch, n, data, d)).transpose(-3, -2),
        first.new_empty((*batch, n), dtype=dtype) if data else nothing,
        first.new_empty((*batch, n, data * (data + 1) // 2), dtype=dtype).mT,
        first.new_empty((*batch, n), dtype=dtype) if count > data else nothing.clone(),
        first.new_empty((*batch, n, count, count), dtype=torch.float64),
    )


def _new_gradients(vectors: list[Tensor], *_: Any) -> Tensor:
    return vectors[0].new_empty((len(vectors), *vectors[0].shape))


torch.library.register_fake("contrastive_ops::tuple_spans")(_new_spans)
torch.library.register_fake("contrastive_ops::tuple_spans_backward")(_new_gradients)


def _holds_basis(dtype: torch.dtype) -> bool:
    return dtype == statistics_dtype(dtype)


@torch.library.impl("contrastive_ops::tuple_spans", "CompositeExplicitAutograd")
def _tuple_spans(vectors, data):  # type: ignore[no-untyped-def]
    banks, data_volume, mixing, volume, inverse = _new_spans(vectors, data)
    count, d = len(vectors), vectors[0].shape[-1]
    tuples = vectors[0].shape[:-1].numel()
    bank_rows, mixing_rows = banks.transpose(-3, -2).view(tuples, data, d), mixing.mT.view(tuples, mixing.shape[-2])
    r, s = torch.tril_indices(data, data, device=banks.device)
    is_basis = _holds_basis(banks.dtype)
    if is_basis:
        mixing_rows[...] = torch.eye(data).to(mixing)[r, s]
    elif data:
        torch.stack(vectors[:data], -2, out=banks.transpose(-3, -2))
    for rows, part in float64_chunks(vectors):
        found = span_(part)
        inverse.view(-1, count, count)[rows] = found.inverse
        if count > data:
            volume.view(-1)[rows] = found.volume
        if data:
            of_data = found.leading(data)
            data_volume.view(-1)[rows] = of_data.volume
            if is_basis:
                bank_rows[rows] = of_data.basis
            else:
                mixing_rows[rows] = of_data.inverse[:, r, s].to(mixing.dtype)
    return banks, data_volume, mixing, volume, inverse


@torch.library.impl("contrastive_ops::tuple_spans_backward", "CompositeExplicitAutograd")
def _tuple_spans_backward(vectors, data, inverse, dbanks, ddata_volume, dvolume):  # type: ignore[no-untyped-def]
    """dX = dbeta beta L^-T Y of each volume, and (I - Y^T Y) G of the data vectors, where G is L^-T dY in a basis, and
    the banks' own gradient where the banks are the vectors."""
    gradients = _new_gradients(vectors)
    count, d = len(vectors), gradients.shape[-1]
    out, inverses = gradients.view(count, -1, d), inverse.view(-1, count, count)
    given = None if dbanks is None else [bank.reshape(-1, d) for bank in dbanks.unbind(-3)]
    for rows, part in float64_chunks(vectors):
        found = span_again(part, inverses[rows])
        gradient = torch.zeros_like(part) if dvolume is None else volume_gradient(found, dvolume.reshape(-1)[rows])
        of_data, data_gradient = found.leading(data), gradient[:, :data]
        if ddata_volume is not None:
            data_gradient += volume_gradient(of_data, ddata_volume.reshape(-1)[rows])
        if given is not None:
            change = outside(of_data, torch.stack([bank[rows] for bank in given], 1).to(torch.float64))
            data_gradient += torch.bmm(of_data.inverse.mT, change) if _holds_basis(gradients.dtype) else change
        out[:, rows] = gradient.transpose(0, 1)
    return gradients

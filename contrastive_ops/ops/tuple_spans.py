"""What volumes need of every tuple of vectors, from one Gram-Schmidt: banks of keys for the kernels, and volumes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from contrastive_ops.ops.once import differentiable_once
from contrastive_ops.ops.rule import Rule
from contrastive_ops.ops.span import (
    float64_chunks,
    identity,
    inside,
    inverse_triangle,
    orthonormalize_,
    volume_coefficients,
    volumes,
)
from contrastive_ops.problem import statistics_dtype

torch.library.define(
    "contrastive_ops::tuple_spans",
    "(Tensor[] vectors, int data) -> (Tensor banks, Tensor col_term, Tensor mixing, Tensor volume, "
    "Tensor last_square, Tensor inverse)",
)
torch.library.define(
    "contrastive_ops::tuple_spans_backward",
    "(Tensor[] vectors, int data, Tensor inverse, Tensor? dbanks, Tensor? dcol_term, Tensor? dvolume, "
    "Tensor? dlast_square) -> Tensor",
)


class TupleSpans(NamedTuple):
    """Of tuples `[.., N]`. What there is nothing of is an empty tensor: the volume of no vectors, or what belongs to an
    anchor where all are data vectors."""

    banks: Tensor  # [.., K, N, D]: see `tuple_spans`
    col_term: Tensor  # [.., N], of the K data vectors
    mixing: Tensor  # [.., K(K+1)/2, N]: see `Score`
    volume: Tensor  # [.., N], of all vectors
    last_square: Tensor  # [.., N], |x|^2 of the last of them


def tuple_spans(vectors: Sequence[Tensor], data: int) -> TupleSpans:
    """Spans of N tuples of vectors, tensors `[.., N, D]`; the first K = `data` of each are a column's data vectors.

    The banks are an orthonormal basis of the data vectors, with the identity for mixing, where the dtype can hold one;
    half precision cannot, and keeps the vectors themselves, with L^-1 for mixing. Their gradient holds for functions of
    span and volume, such as the volume score, not for functions of the basis itself.
    """
    return TupleSpans(*_TupleSpans.apply(data, *vectors))


class _TupleSpans(Rule):
    num_outputs = len(TupleSpans._fields)

    @staticmethod
    def run(data, *vectors):  # type: ignore[no-untyped-def]
        *spans, inverse = torch.ops.contrastive_ops.tuple_spans(list(vectors), data)
        return tuple(spans), (inverse,)

    @staticmethod
    def keep(ctx: Any, args, outputs, kept):  # type: ignore[no-untyped-def]
        data, *vectors = args
        spans = TupleSpans(*outputs)
        ctx.save_for_backward(*kept, *vectors)
        ctx.data = data
        needs_grad = ctx.needs_input_grad[1:]
        constant = [spans.mixing]
        if not any(needs_grad[:data]):  # or the kernels would compute gradients that nobody takes
            constant += [spans.banks, spans.col_term]
        if not needs_grad[-1]:
            constant.append(spans.last_square)
        ctx.mark_non_differentiable(*constant)
        ctx.set_materialize_grads(False)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, saved, dbanks, dcol_term, _, dvolume, dlast_square):  # type: ignore[no-untyped-def]
        inverse, *vectors = saved
        # compiled graphs have zeros, not None, for what nobody used: of outputs that there is nothing of, too
        if ctx.data == 0:
            dcol_term = None
        if ctx.data == len(vectors):
            dvolume = dlast_square = None
        upstream = (dbanks, dcol_term, dvolume, dlast_square)
        if all(gradient is None for gradient in upstream):
            return (None,) * (1 + len(vectors))
        gradients = torch.ops.contrastive_ops.tuple_spans_backward(vectors, ctx.data, inverse, *upstream).unbind(0)
        wanted = ctx.needs_input_grad[1:]
        return None, *(g if want else None for g, want in zip(gradients, wanted, strict=True))


def _new_spans(vectors: list[Tensor], data: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    first, count = vectors[0], len(vectors)
    *batch, n, d = first.shape
    dtype = statistics_dtype(first.dtype)

    def numbers(present: bool) -> Tensor:
        return first.new_empty((*batch, n) if present else (0,), dtype=dtype)

    # what belongs to one column lies together
    return (
        first.new_empty((*batch, n, data, d)).transpose(-3, -2),
        numbers(data > 0),
        first.new_empty((*batch, n, data * (data + 1) // 2), dtype=dtype).mT,
        numbers(count > data),
        numbers(count > data),
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
    banks, col_term, mixing, volume, last_square, inverse = _new_spans(vectors, data)
    count, d = len(vectors), vectors[0].shape[-1]
    tuples = vectors[0].shape[:-1].numel()
    bank_rows, mixing_rows = banks.transpose(-3, -2).view(tuples, data, d), mixing.mT.view(tuples, mixing.shape[-2])
    is_basis = _holds_basis(banks.dtype)
    triangle = inverse.view(tuples, count, count)  # first L, at last L^-1
    for rows, part in float64_chunks(vectors):
        triangle[rows] = orthonormalize_(part)
        if is_basis:
            bank_rows[rows] = part[:, :data]
    if count > data:
        volume.view(-1).copy_(volumes(triangle))
        last_square.view(-1).copy_(triangle[:, -1].square().sum(-1))
    if data:
        col_term.view(-1).copy_(volumes(triangle[:, :data, :data]))
    triangle.copy_(inverse_triangle(triangle))
    r, s = torch.tril_indices(data, data, device=banks.device)
    if is_basis:
        mixing_rows[...] = identity(data, mixing)[r, s]
    elif data:
        mixing_rows.copy_(triangle[:, r, s])
        torch.stack(vectors[:data], -2, out=banks.transpose(-3, -2))
    return banks, col_term, mixing, volume, last_square, inverse


@torch.library.impl("contrastive_ops::tuple_spans_backward", "CompositeExplicitAutograd")
def _tuple_spans_backward(  # type: ignore[no-untyped-def]
    vectors, data, inverse, dbanks, dcol_term, dvolume, dlast_square
):
    """The gradient of both volumes, 2 x of the square, and L^-T (I - Y^T Y) dY of the basis of the data vectors; where
    the banks are the vectors, (I - Y^T Y) of their own gradient. All of it is one small matrix times vectors and
    gradients of a tuple."""
    gradients = _new_gradients(vectors)
    count, d = len(vectors), gradients.shape[-1]
    inverse = inverse.view(-1, count, count)
    of_data = inverse[:, :data, :data]
    coefficients = torch.zeros_like(inverse) if dvolume is None else volume_coefficients(inverse, dvolume.reshape(-1))
    if dcol_term is not None:
        coefficients[:, :data, :data] += volume_coefficients(of_data, dcol_term.reshape(-1))
    if dlast_square is not None:
        coefficients[:, -1, -1] += 2 * dlast_square.reshape(-1)
    change, is_basis = [] if dbanks is None else dbanks.unbind(-3), _holds_basis(gradients.dtype)
    out = gradients.view(count, -1, d)
    for rows, part in float64_chunks([*vectors, *change]):
        factors = coefficients[rows]
        if change:
            back = of_data[rows].mT if is_basis else identity(data, part).expand(len(part), data, data)
            factors = torch.cat([factors, part.new_zeros((len(part), count, data))], 2)
            factors[:, :data, :data] -= torch.bmm(back, inside(of_data[rows], part[:, :data], part[:, count:]))
            factors[:, :data, count:] = back
        out[:, rows] = torch.bmm(factors, part).transpose(0, 1)
    return gradients

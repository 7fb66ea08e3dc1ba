"""Volumes of matching tuples, without a determinant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from contrastive_ops.ops.once import differentiable_once
from contrastive_ops.ops.span import float64_chunks, span_, span_again, volume_gradient
from contrastive_ops.problem import check_modalities, statistics_dtype

torch.library.define("contrastive_ops::gram_volume", "(Tensor[] vectors) -> (Tensor volume, Tensor inverse)")
torch.library.define(
    "contrastive_ops::gram_volume_backward", "(Tensor[] vectors, Tensor inverse, Tensor dvolume) -> Tensor"
)


def gram_volume(anchor: Tensor, modalities: Sequence[Tensor]) -> Tensor:
    """Volumes of matching tuples, V_i = sqrt(det Gram(a_i, x^1_i, ..., x^K_i)): 0 where they agree.

    Computed in float64 from an orthonormal basis, without a determinant: right also for vectors at angles of 1e-4 and
    below, where float32 determinants are noise.

    Args:
        anchor: `[N, D]` or `[B, N, D]`; float32, float64, bfloat16 or float16.
        modalities: a sequence of 1 to 7 tensors of the same shape, dtype and device.

    Returns:
        `[N]` or `[B, N]`, float32 (float64 for float64 inputs). Differentiable once; a volume of 0 (vectors
        dependent to 12 digits) has gradient 0. O(N * K^2 * D) time, memory for a few chunks of 2 MiB.

    Raises:
        ValueError, TypeError: naming got and expected, before any work is done.
    """
    anchor, modalities = check_modalities(anchor, modalities, paired=True)
    volume: Tensor = _GramVolume.apply(*modalities, anchor)  # type: ignore[no-untyped-call]
    return volume


class _GramVolume(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *vectors):  # type: ignore[no-untyped-def]
        volume, inverse = torch.ops.contrastive_ops.gram_volume(list(vectors))
        ctx.save_for_backward(inverse, *vectors)
        return volume

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, dvolume):  # type: ignore[no-untyped-def]
        inverse, *vectors = ctx.saved_tensors
        gradients = torch.ops.contrastive_ops.gram_volume_backward(vectors, inverse, dvolume).unbind(0)
        return tuple(g if want else None for g, want in zip(gradients, ctx.needs_input_grad, strict=True))


def _new_volume(vectors: list[Tensor]) -> tuple[Tensor, Tensor]:
    first, count = vectors[0], len(vectors)
    return (
        first.new_empty(first.shape[:-1], dtype=statistics_dtype(first.dtype)),
        first.new_empty((*first.shape[:-1], count, count), dtype=torch.float64),
    )


def _new_gradients(vectors: list[Tensor], inverse: Tensor, dvolume: Tensor) -> Tensor:
    return vectors[0].new_empty((len(vectors), *vectors[0].shape))


torch.library.register_fake("contrastive_ops::gram_volume")(_new_volume)
torch.library.register_fake("contrastive_ops::gram_volume_backward")(_new_gradients)


@torch.library.impl("contrastive_ops::gram_volume", "CompositeExplicitAutograd")
def _gram_volume(vectors):  # type: ignore[no-untyped-def]
    volume, inverse = _new_volume(vectors)
    for rows, part in float64_chunks(vectors):
        found = span_(part)
        volume.view(-1)[rows] = found.volume
        inverse.view(-1, *inverse.shape[-2:])[rows] = found.inverse
    return volume, inverse


@torch.library.impl("contrastive_ops::gram_volume_backward", "CompositeExplicitAutograd")
def _gram_volume_backward(vectors, inverse, dvolume):  # type: ignore[no-untyped-def]
    gradients = _new_gradients(vectors, inverse, dvolume)
    out, inverses = gradients.view(len(vectors), -1, gradients.shape[-1]), inverse.view(-1, *inverse.shape[-2:])
    for rows, part in float64_chunks(vectors):
        gradient = volume_gradient(span_again(part, inverses[rows]), dvolume.reshape(-1)[rows])
        out[:, rows] = gradient.transpose(0, 1)
    return gradients

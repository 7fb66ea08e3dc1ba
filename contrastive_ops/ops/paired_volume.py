"""Volumes of matching tuples, without a determinant."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from contrastive_ops.check import check_modalities
from contrastive_ops.ops.tuple_spans import tuple_spans


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
    return tuple_spans((*modalities, anchor), data=0).volume

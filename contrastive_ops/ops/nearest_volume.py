"""Retrieval by smallest volume, block by block."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from contrastive_ops.check import check_matrix, check_modalities
from contrastive_ops.ops.rule import refuse_transformed
from contrastive_ops.ops.volume_blocks import volume_blocks
from contrastive_ops.plain import plain_int
from contrastive_ops.problem import statistics_dtype


@torch.no_grad()
def gram_nearest(anchor: Tensor, modalities: Sequence[Tensor], k: int) -> tuple[Tensor, Tensor]:
    """The k tuples that span the smallest volumes with each anchor: retrieval as GRAM does it.

    Args:
        anchor: `[M, D]`; float32, float64, bfloat16 or float16.
        modalities: a sequence of 1 to 7 tensors `[N, D]`: row j of each is tuple j.
        k: 1 to N.

    Returns:
        (volumes, indices), `[M, k]` each, smallest first, NaN last; volumes in float32 (float64 for float64 inputs).
        Without gradient. The M x N volumes are visited in blocks, with 32 MiB of memory; which of two equal volumes
        comes first is not specified.

    Raises:
        ValueError, TypeError: naming got and expected, before any work is done.
    """
    check_matrix("anchor", anchor)
    anchor, modalities = check_modalities(anchor, modalities)
    n = modalities[0].shape[0]
    k = plain_int(k)
    if isinstance(k, bool) or not isinstance(k, int):
        raise TypeError(f"k must be an int, got {type(k).__name__}")
    if not 1 <= k <= n:
        raise ValueError(f"k must be from 1 to the number of tuples, {n}, got {k}")
    refuse_transformed(anchor, *modalities)
    volumes = anchor.new_empty((anchor.shape[0], k), dtype=statistics_dtype(anchor.dtype))
    indices = torch.empty((anchor.shape[0], k), dtype=torch.int64, device=anchor.device)
    smallest, where = volumes[:0], indices[:0]
    for rows, cols, block in volume_blocks(anchor, modalities, scale=1.0):
        columns = torch.arange(cols.start, cols.stop, device=block.device).expand_as(block)
        if cols.start > 0:
            block, columns = torch.cat((smallest, block), 1), torch.cat((where, columns), 1)
        smallest, order = block.topk(min(k, block.shape[1]), dim=1, largest=False)
        where = columns.gather(1, order)
        if cols.stop == n:
            volumes[rows], indices[rows] = smallest, where
    return volumes, indices

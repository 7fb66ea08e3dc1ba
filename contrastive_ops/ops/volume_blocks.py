"""Blocks of volume scores, for what has no gradient and needs more of them than their statistics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from contrastive_ops.backends.eager import score_blocks
from contrastive_ops.ops.volume_statistics import volume_problem


def volume_blocks(
    anchor: Tensor, modalities: Sequence[Tensor], scale: float | Tensor
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Yields (rows, cols, scale * V `[m, n]`): all blocks of some rows, from left to right, then those of the next. The
    memory of a block is used again for the next one."""
    problem, _ = volume_problem(anchor, modalities, scale=scale, rows=True, columns=False)
    for block in score_blocks(problem.with_batch()):
        yield block.rows, block.cols, block.scores

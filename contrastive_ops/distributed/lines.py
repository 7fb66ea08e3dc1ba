"""The lines (rows or columns) of one rank or of several, and the block of scores that two sets of lines span."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from contrastive_ops.distributed.collectives import Tensors
from contrastive_ops.leaves import Axis, lines_first, lines_in_place
from contrastive_ops.problem import Problem


class Lines(NamedTuple):
    """All that the scores need to know of n lines of one side: the leaves of a problem along that axis."""

    start: int  # index of the first line among those of all ranks
    tensors: Tensors  # each `[n, ...]`, the vectors first

    def packed(self, wire_dtype: torch.dtype) -> Tensors:
        """What travels: the vectors, and everything else of one dtype side by side."""
        vectors, *others = self.tensors
        flat = [x.reshape(x.shape[0], _width(x)) for x in others]
        return vectors.to(wire_dtype), *(torch.cat([flat[i] for i in group], 1) for group in _by_dtype(others))

    def unpacked(self, start: int, packed: Tensors) -> Lines:
        """Other lines of the same make, from what travelled."""
        mine, *others = self.tensors
        vectors, *groups = packed
        found = list(others)
        for group, together in zip(_by_dtype(others), groups, strict=True):
            parts = together.split([_width(others[i]) for i in group], 1)
            for i, part in zip(group, parts, strict=True):
                found[i] = part.reshape(part.shape[0], *others[i].shape[1:])
        return Lines(start, (vectors.to(mine.dtype), *found))


def own_lines(problem: Problem, row_start: int, col_start: int) -> tuple[Lines, Lines]:
    """The (rows, columns) of this rank's own problem, which has no batch dimension."""
    rows, cols = (
        tuple(lines_first(leaf, tensor) for leaf, tensor in problem.leaves() if leaf.axis is axis)
        for axis in (Axis.ROWS, Axis.COLS)
    )
    return Lines(row_start, rows), Lines(col_start, cols)


def block(problem: Problem, rows: Lines, cols: Lines, workspace_bytes: int) -> Problem:
    """The scores of these rows against these columns, with all else as in the problem; with a batch dimension."""
    of_axis = {Axis.ROWS: iter(rows.tensors), Axis.COLS: iter(cols.tensors)}
    tensors = [
        tensor if leaf.axis is Axis.NONE else lines_in_place(leaf, next(of_axis[leaf.axis]))
        for leaf, tensor in problem.leaves()
    ]
    placed = problem.with_leaves(tensors).moved(rows.start, cols.start)
    return placed.with_batch()._replace(workspace_bytes=workspace_bytes)


def _by_dtype(tensors: Sequence[Tensor]) -> list[list[int]]:
    dtypes = dict.fromkeys(x.dtype for x in tensors)
    return [[i for i, x in enumerate(tensors) if x.dtype == dtype] for dtype in dtypes]


def _width(lines: Tensor) -> int:
    """Numbers of a line."""
    return lines.shape[1:].numel()

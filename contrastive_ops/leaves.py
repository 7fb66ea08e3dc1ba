"""Tensors of a problem: along which axis of the score matrix each lies, so that one rule cuts and moves them all."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from torch import Tensor


class Axis(Enum):
    ROWS = "rows"
    COLS = "columns"
    NONE = "none"


class Leaf(NamedTuple):
    """What is known of a tensor before it is there. Shapes are those with a batch dimension."""

    axis: Axis
    dims: int  # 0: one number, without a batch dimension
    dim: int = -1  # the dimension along the axis
    gradient: str | None = None  # its name in `Gradients`; None: a constant


def cut(leaf: Leaf, tensor: Tensor, rows: slice | None, cols: slice | None, batch: slice | None) -> Tensor:
    """A contiguous part of the lines and of the batch; what one batch entry holds for all of them stays."""
    part = rows if leaf.axis is Axis.ROWS else cols if leaf.axis is Axis.COLS else None
    if part is not None:
        tensor = tensor.narrow(leaf.dim, part.start, part.stop - part.start)
    if batch is not None and leaf.dims and tensor.shape[0] > 1:
        tensor = tensor[batch]
    return tensor


def lines_first(leaf: Leaf, tensor: Tensor) -> Tensor:
    """`[n, ...]` of a tensor without a batch dimension, as lines travel."""
    return tensor.movedim(leaf.dim, 0)


def lines_in_place(leaf: Leaf, tensor: Tensor) -> Tensor:
    """Inverse of `lines_first`."""
    return tensor.movedim(0, leaf.dim)

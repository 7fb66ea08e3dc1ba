"""The same values in other strides."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def _contiguous(x: Tensor) -> Tensor:
    return x.contiguous()


def _transposed(x: Tensor) -> Tensor:
    return x.mT.contiguous().mT


def _sliced(x: Tensor) -> Tensor:
    """Every second row and an inner part of wider rows; what lies between is NaN."""
    *batch, rows, d = x.shape
    wide = x.new_full((*batch, 2 * rows, d + 5), torch.nan)
    view = wide[..., ::2, 3 : 3 + d]
    view.copy_(x)
    return view


def _expanded(x: Tensor) -> Tensor:
    """Row stride 0: every row is the first one."""
    return x[..., :1, :].contiguous().expand_as(x)


def _shared_batch(x: Tensor) -> Tensor:
    """Batch stride 0: every entry is the first one."""
    return x[:1].contiguous().expand_as(x) if x.dim() == 3 else x


def _interleaved_batch(x: Tensor) -> Tensor:
    """Every entry lies between the lines of the others."""
    return x.transpose(0, 1).contiguous().transpose(0, 1) if x.dim() == 3 else x


def _strided_inner(x: Tensor) -> Tensor:
    """Neither stride is 1."""
    view = x.new_full((*x.shape, 2), torch.nan)[..., 1]
    view.copy_(x)
    return view


def _negated(x: Tensor) -> Tensor:
    """A lazily negated view (`is_neg()`): the memory holds -x."""
    if x.dtype not in (torch.float32, torch.float64):
        return _strided_inner(x)
    return torch.complex(torch.zeros_like(x), -x).conj().imag


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": _contiguous,
    "transposed": _transposed,
    "sliced": _sliced,
    "expanded": _expanded,
    "shared_batch": _shared_batch,
    "interleaved_batch": _interleaved_batch,
    "strided_inner": _strided_inner,
    "negated": _negated,
}

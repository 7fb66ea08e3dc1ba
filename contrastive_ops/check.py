"""What tensors and numbers must be, and what autocast makes of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from contrastive_ops.plain import plain_float
from contrastive_ops.scores import MAX_BANKS
from contrastive_ops.steady import savable

SUPPORTED_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
AUTOCAST_DEVICES = frozenset(
    kind for kind in ("cpu", "cuda", "xpu", "mps", "hpu", "mtia") if torch.amp.is_autocast_available(kind)
)


def check_embeddings(name: str, value: Tensor) -> None:
    """Raise unless `value` is a floating `[M, D]` or `[B, M, D]` tensor with D >= 1."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
    if type(value).__name__ == "DTensor":
        raise TypeError(f"{name} is a DTensor, expected a plain tensor: pass {name}.to_local() or .full_tensor()")
    if value.layout != torch.strided:
        raise TypeError(f"{name} must be a dense tensor, got layout {value.layout}: call .to_dense()")
    if value.dtype not in SUPPORTED_DTYPES:
        expected = ", ".join(str(d).removeprefix("torch.") for d in SUPPORTED_DTYPES)
        raise TypeError(f"{name} must have a dtype of {expected}, got {value.dtype}")
    if value.dim() not in (2, 3):
        raise ValueError(f"{name} must be [rows, D] or [B, rows, D], got shape {shape_of(value)}")
    if value.shape[-1] < 1:
        raise ValueError(f"{name} must have an embedding size D >= 1, got shape {shape_of(value)}")


def check_matrix(name: str, value: Tensor) -> None:
    """Raise unless `value` is `[N, D]` embeddings."""
    check_embeddings(name, value)
    if value.dim() != 2:
        raise ValueError(f"{name} must be [N, D], got shape {shape_of(value)}")


def check_modalities(
    anchor: Tensor, modalities: Sequence[Tensor], *, paired: bool = False
) -> tuple[Tensor, list[Tensor]]:
    """(anchor, modalities) after autocast; raise unless they are `[M, D]` and 1 to 7 of `[N, D]` (or `[B, ., D]`), all
    of one shape if `paired`."""
    check_embeddings("anchor", anchor)
    if isinstance(modalities, Tensor) or not isinstance(modalities, Sequence):
        raise TypeError(f"modalities must be a sequence of tensors, got {type(modalities).__name__}: pass [modality]")
    if not 1 <= len(modalities) <= MAX_BANKS:
        raise ValueError(f"modalities must be 1 to {MAX_BANKS} tensors, got {len(modalities)}")
    for k, modality in enumerate(modalities):
        check_embeddings(f"modalities[{k}]", modality)
    anchor, cast = autocast(anchor), [autocast(modality) for modality in modalities]
    for k, modality in enumerate(cast):
        name = f"modalities[{k}]"
        if modality.device != anchor.device:
            raise ValueError(f"{name} must be on the device of the anchor, {anchor.device}, got {modality.device}")
        if modality.dtype != anchor.dtype:
            raise TypeError(
                f"anchor and {name} must share one dtype, got {anchor.dtype} and {modality.dtype}: cast one"
            )
        if modality.dim() != anchor.dim() or modality.shape[:-2] != anchor.shape[:-2]:
            raise ValueError(
                f"anchor and {name} must both be [rows, D] or [B, rows, D], "
                f"got shapes {shape_of(anchor)} and {shape_of(modality)}"
            )
        if modality.shape[-1] != anchor.shape[-1]:
            raise ValueError(
                f"anchor and {name} must share the embedding size D, got {anchor.shape[-1]} and {modality.shape[-1]}"
            )
        if modality.shape != cast[0].shape:
            raise ValueError(f"all modalities must have one shape, got {shape_of(cast[0])} and {shape_of(modality)}")
    if paired and anchor.shape != cast[0].shape:
        raise ValueError(f"anchor and modalities must match row by row, got {shape_of(anchor)} and {shape_of(cast[0])}")
    return anchor, cast


def autocast(value: Tensor) -> Tensor:
    """Cast to the autocast dtype where autocast is active (float64 is left alone, as in PyTorch)."""
    kind = value.device.type
    if value.dtype == torch.float64 or not is_autocast_active(kind):
        return value
    return value.to(torch.get_autocast_dtype(kind))


def is_autocast_active(kind: str) -> bool:
    # the table stands for `torch.amp.is_autocast_available`, which a graph cannot hold before torch 2.12
    return kind in AUTOCAST_DEVICES and torch.is_autocast_enabled(kind)


def without_autocast(value: Tensor) -> AbstractContextManager[Any]:
    """Where autocast has done its part (`autocast`), every product of `value` keeps its dtype."""
    kind = value.device.type
    return torch.autocast(kind, enabled=False) if is_autocast_active(kind) else nullcontext()


def check_scale(scale: float | Tensor, device: torch.device, dtype: torch.dtype, name: str = "scale") -> Tensor:
    """The scale as a 0-dim tensor of the statistics dtype; keeps the graph of a tensor. `name`: of the argument.

    For a tensor of another device the host waits; for a float it does not.
    """
    if isinstance(scale, Tensor):
        if scale.numel() != 1:
            raise ValueError(f"{name} must be a float or hold one element, got shape {shape_of(scale)}")
        if not scale.is_floating_point():
            raise TypeError(f"{name} must be a floating-point tensor, got {scale.dtype}")
        # no view and no cast where none is needed: each would be a node of the graph
        return (scale if scale.dim() == 0 else scale.reshape(())).to(device=device, dtype=dtype)
    number = plain_float(scale)
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise TypeError(f"{name} must be a float or a 0-dim tensor, got {type(scale).__name__}")
    value, largest = float(number), torch.finfo(dtype).max
    if largest < abs(value) < math.inf:
        raise ValueError(f"{name} must be a number of {dtype}, at most {largest:.4g} in size, got {value}")
    if torch.compiler.is_compiling():  # a product may have any number, a fill is compiled for each of a schedule
        return torch.ones((), device=device, dtype=dtype) * value
    # a fill: `torch.tensor` would copy the number from the host, which waits for the device and breaks a CUDA graph
    return torch.full((), value, device=device, dtype=dtype)


def check_line(
    name: str, value: Tensor | None, shape: tuple[int, ...], device: torch.device, dtype: torch.dtype
) -> Tensor | None:
    """A number for each line in the statistics dtype; keeps the graph."""
    if value is None:
        return None
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor or None, got {type(value).__name__}")
    if not value.is_floating_point():
        raise TypeError(f"{name} must be a floating-point tensor, got {value.dtype}")
    if tuple(value.shape) != shape:
        raise ValueError(f"{name} must have shape {shape}, got {shape_of(value)}")
    if value.device != device:
        raise ValueError(f"{name} must be on the device of the queries, {device}, got {value.device}")
    return savable(value.to(dtype))


def shape_of(value: Tensor) -> tuple[int, ...]:
    return tuple(value.shape)

"""Checks of inputs and settings: errors name got and expected, before any work."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from contrastive_ops.ops.transforms import has_values
from contrastive_ops.steady import steady


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise unless `value` is one of the words."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def check_number(name: str, value: float, low: float, high: float = math.inf, *, low_belongs: bool = True) -> None:
    """Raise unless low <= value < high (low < value if `low_belongs` is False)."""
    expected = f"in {'[' if low_belongs else '('}{low:g}, {high:g})"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a float {expected}, got {type(value).__name__}")
    if not ((low <= value if low_belongs else low < value) and value < high):
        raise ValueError(f"{name} must be {expected}, got {value}")


def check_vector(name: str, value: Tensor, length: int) -> None:
    """Raise unless `value` is a floating `[length]` tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
    if not value.is_floating_point():
        raise TypeError(f"{name} must be floating-point, got {value.dtype}")
    _check_length(name, value, length)


def check_ids(name: str, value: Tensor, length: int | None = None) -> Tensor:
    """`value` as `steady` makes it; raise unless it is an integer (or bool) tensor `[length]`, of any length by
    default."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
    if value.is_floating_point() or value.is_complex():
        raise TypeError(f"{name} must be integers, got {value.dtype}")
    _check_length(name, value, length)
    return steady(value)


def check_indices(
    name: str, value: Tensor, below: int, length: int | None = None, *, negative_ignores: bool = False
) -> Tensor:
    """`value` as `steady` makes it; raise unless it is an integer tensor `[length]` of indices in [0, below) (or
    negative, if that ignores).

    Of values on a GPU the GPU itself asserts it, as in PyTorch's own losses: the host does not wait for them. While a
    graph is compiled, in a trace and inside `vmap` only type and shape are looked at.
    """
    indices = check_ids(name, value, length)
    if value.dtype == torch.bool:
        raise TypeError(f"{name} must be integers, got a mask (torch.bool): call .nonzero().squeeze(1)")
    if torch.compiler.is_compiling() or value.numel() == 0 or not has_values(value):
        return indices
    least, largest = indices.aminmax()
    if _is_out_of_reach(value):
        fits = largest < below if negative_ignores else (largest < below) & (least >= 0)
        torch._assert_async(fits, f"{name} must lie in [0, {below})")
    elif int(largest) >= below or (int(least) < 0 and not negative_ignores):
        raise ValueError(f"{name} must lie in [0, {below}), got values from {int(least)} to {int(largest)}")
    return indices


def _is_out_of_reach(value: Tensor) -> bool:
    """Whether the host would have to wait for the values, or there are none."""
    return value.is_cuda or value.is_meta or isinstance(value, FakeTensor)


def _check_length(name: str, value: Tensor, length: int | None) -> None:
    if value.dim() != 1 or (length is not None and value.shape[0] != length):
        raise ValueError(f"{name} must have shape [{'K' if length is None else length}], got {tuple(value.shape)}")

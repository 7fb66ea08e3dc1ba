"""Checks of inputs and settings: errors name got and expected, before any work."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from contrastive_ops.ops.transforms import has_values
from contrastive_ops.plain import plain_float
from contrastive_ops.readable import is_readable
from contrastive_ops.steady import steady


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise unless `value` is one of the words."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def check_number(name: str, value: float, low: float, high: float = math.inf, *, low_belongs: bool = True) -> float:
    """The value as a plain number; raise unless low <= value < high (low < value if `low_belongs` is False)."""
    expected = f"in {'[' if low_belongs else '('}{low:g}, {high:g})"
    number = plain_float(value)
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise TypeError(f"{name} must be a float {expected}, got {type(value).__name__}")
    if not ((low <= number if low_belongs else low < number) and number < high):
        raise ValueError(f"{name} must be {expected}, got {number}")
    return number


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

    Of values on a GPU the GPU itself asserts it, as in PyTorch's own losses: the host does not wait for them. Where
    there are no values (a compiled graph, meta tensors, transforms) only type and shape are looked at.
    """
    indices = check_ids(name, value, length)
    if value.dtype == torch.bool:
        raise TypeError(f"{name} must be integers, got a mask (torch.bool): call .nonzero().squeeze(1)")
    if indices.numel() == 0:
        return indices
    if is_readable(indices):
        least, largest = (int(bound) for bound in indices.aminmax())
        if largest >= below or (least < 0 and not negative_ignores):
            raise ValueError(f"{name} must lie in [0, {below}), got values from {least} to {largest}")
    elif _asserts_itself(indices):
        first, last = indices.aminmax()
        fits = last < below if negative_ignores else (last < below) & (first >= 0)
        torch._assert_async(fits, f"{name} must lie in [0, {below})")
    return indices


def _asserts_itself(value: Tensor) -> bool:
    """Whether the device of the values can stop a program."""
    return value.is_cuda and not torch.compiler.is_compiling() and has_values(value)


def _check_length(name: str, value: Tensor, length: int | None) -> None:
    if value.dim() != 1 or (length is not None and value.shape[0] != length):
        raise ValueError(f"{name} must have shape [{'K' if length is None else length}], got {tuple(value.shape)}")

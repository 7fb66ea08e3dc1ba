"""What the losses share: reduction, temperature, and checks of inputs and settings."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from contrastive_ops.problem import autocast, check_embeddings, check_scale, statistics_dtype

REDUCTIONS = ("mean", "sum", "none")


def reduce(losses: Tensor, reduction: str) -> Tensor:
    """Apply "mean", "sum" or "none"; the mean over no rows is 0."""
    if reduction == "none":
        return losses
    # the mean over nothing is the sum over nothing: 0
    return losses.mean() if reduction == "mean" and losses.numel() else losses.sum()


def reduce_counted(losses: Tensor, counted: Tensor, reduction: str) -> Tensor:
    """`reduce`, with the mean over the rows that `counted` (bool) marks; the others have loss 0."""
    return losses.sum() / counted.sum().clamp(min=1) if reduction == "mean" else reduce(losses, reduction)


def check_reduction(reduction: str) -> None:
    """Raise unless `reduction` is known."""
    check_choice("reduction", reduction, REDUCTIONS)


def inverse_temperature(temperature: float | Tensor) -> float | Tensor:
    """scale = 1 / temperature, keeping the graph of a learnable temperature."""
    if isinstance(temperature, Tensor):
        if temperature.numel() != 1 or not temperature.is_floating_point():
            raise ValueError(
                "temperature must be a float or a one-element floating-point tensor, "
                f"got {temperature.dtype} of shape {tuple(temperature.shape)}"
            )
        return temperature.reciprocal()
    if isinstance(temperature, bool) or not isinstance(temperature, (int, float)):
        raise TypeError(f"temperature must be a float or a 0-dim tensor, got {type(temperature).__name__}")
    if not temperature > 0:
        raise ValueError(f"temperature must be > 0, got {temperature}")
    return 1.0 / temperature


def paired_scores(queries: Tensor, keys: Tensor, scale: float | Tensor) -> Tensor:
    """scale * <q_i, k_i> over the last dimension, `[M]` for `[M, D]`, in the statistics dtype: outside any tile.

    The others broadcast: `[M, 1, D]` and `[M, K, D]` give the `[M, K]` scores of row-private candidates.
    """
    queries, keys = in_statistics_dtype(queries), in_statistics_dtype(keys)
    # elementwise: autocast would round a matmul
    return check_scale(scale, queries.device, queries.dtype) * (queries * keys).sum(-1)


def in_statistics_dtype(embeddings: Tensor) -> Tensor:
    """As the scores see them: rounded by autocast if that is on, then widened."""
    embeddings = autocast(embeddings)
    return embeddings.to(statistics_dtype(embeddings.dtype))


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


def check_matrix(name: str, value: Tensor) -> None:
    """Raise unless `value` is a floating `[N, D]` tensor."""
    check_embeddings(name, value)
    if value.dim() != 2:
        raise ValueError(f"{name} must be [N, D], got shape {tuple(value.shape)}")


def check_row_integers(name: str, value: Tensor, length: int | None = None) -> None:
    """Raise unless `value` is an integer tensor `[length]` (of any length by default): ids, labels or indices."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
    if value.is_floating_point() or value.is_complex() or value.dtype == torch.bool:
        raise TypeError(f"{name} must be integers, got {value.dtype}")
    if value.dim() != 1 or (length is not None and value.shape[0] != length):
        raise ValueError(f"{name} must have shape [{'K' if length is None else length}], got {tuple(value.shape)}")


def check_pairs(first_name: str, first: Tensor, second_name: str, second: Tensor) -> None:
    """Raise unless both are `[N, D]` tensors of one shape."""
    for name, value in ((first_name, first), (second_name, second)):
        check_matrix(name, value)
    if autocast(first).dtype != autocast(second).dtype:
        raise TypeError(
            f"{first_name} and {second_name} must share one dtype, got {first.dtype} and {second.dtype}: cast one"
        )
    if first.shape != second.shape:
        raise ValueError(
            f"{first_name} and {second_name} must have one shape [N, D], "
            f"got {tuple(first.shape)} and {tuple(second.shape)}"
        )

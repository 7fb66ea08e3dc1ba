"""What the losses share: reduction, temperature, and the scores of pairs."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from contrastive_ops.check import autocast, check_matrix, check_scale
from contrastive_ops.losses._checks import check_choice
from contrastive_ops.plain import plain_float
from contrastive_ops.problem import statistics_dtype
from contrastive_ops.readable import is_readable

LossReduction = Literal["mean", "sum", "none"]
REDUCTIONS: tuple[str, ...] = get_args(LossReduction)


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


def inverse_temperature(temperature: float | Tensor, features: Tensor) -> float | Tensor:
    """scale = 1 / temperature, keeping the graph of a learnable temperature.

    A tensor is inverted in the statistics dtype of the features: bfloat16 would round the inverse to 8 bits, and
    float16 has none for 1e-5. Its sign is looked at where that is free.
    """
    if isinstance(temperature, Tensor):
        if temperature.numel() != 1 or not temperature.is_floating_point():
            raise ValueError(
                "temperature must be a float or a one-element floating-point tensor, "
                f"got {temperature.dtype} of shape {tuple(temperature.shape)}"
            )
        if is_readable(temperature) and not temperature > 0:
            raise ValueError(f"temperature must be > 0, got {temperature.item():.4g}")
        return temperature.to(statistics_dtype(features.dtype)).reciprocal()
    number = plain_float(temperature)
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise TypeError(f"temperature must be a float or a 0-dim tensor, got {type(temperature).__name__}")
    if not number > 0:
        raise ValueError(f"temperature must be > 0, got {number}")
    dtype = statistics_dtype(features.dtype)
    scale, largest = 1.0 / float(number), torch.finfo(dtype).max
    if scale > largest:
        raise ValueError(f"temperature must be at least {1.0 / largest:.4g} for statistics in {dtype}, got {number}")
    return scale


def named_scale(name: str, scale: float | Tensor, features: Tensor) -> Tensor:
    """`check_scale` for the statistics of these features; errors call it by the name of the loss's argument."""
    return check_scale(scale, features.device, statistics_dtype(features.dtype), name)


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

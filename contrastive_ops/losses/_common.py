"""What the losses share: reduction, temperature, and checks of paired inputs."""

from __future__ import annotations

from torch import Tensor

from contrastive_ops.problem import autocast, check_matrix, check_scale, statistics_dtype

REDUCTIONS = ("mean", "sum", "none")


def reduce(losses: Tensor, reduction: str) -> Tensor:
    """Apply "mean", "sum" or "none"; the mean over no rows is 0."""
    if reduction == "none":
        return losses
    # the mean over nothing is the sum over nothing: 0
    return losses.mean() if reduction == "mean" and losses.numel() else losses.sum()


def check_reduction(reduction: str) -> None:
    """Raise unless `reduction` is known."""
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}")


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
    """scale * <q_i, k_i> for `[M, D]` inputs, `[M]` in the statistics dtype: O(M*D), outside any tile."""
    queries, keys = autocast(queries), autocast(keys)
    dtype = statistics_dtype(queries.dtype)
    return check_scale(scale, queries.device, dtype) * (queries.to(dtype) * keys.to(dtype)).sum(1)


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

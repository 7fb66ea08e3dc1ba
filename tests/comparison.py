"""One comparison for every loss: values and all gradients against float64, bounded by the dense formula's own error."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from contrastive_ops.problem import statistics_dtype
from contrastive_ops.testing import norm_error, tolerance_for

Leaves = dict[str, Tensor]
Loss = Callable[[Leaves], Tensor]


def gradients(loss: Loss, leaves: Leaves, upstream: Tensor | None = None) -> tuple[Tensor, Leaves]:
    """(value, gradient of every leaf that requires grad)."""
    value = loss(leaves)
    wanted = {name: leaf for name, leaf in leaves.items() if leaf.requires_grad}
    weight = torch.ones_like(value) if upstream is None else upstream.to(value.dtype)
    grads = torch.autograd.grad(value, list(wanted.values()), weight, allow_unused=True, materialize_grads=True)
    return value.detach(), dict(zip(wanted, grads, strict=True))


def cast(leaves: Leaves, dtype: torch.dtype) -> Leaves:
    """The same rounded numbers in another dtype; integers stay."""
    return {
        name: leaf.detach().to(dtype).requires_grad_(leaf.requires_grad) if leaf.is_floating_point() else leaf
        for name, leaf in leaves.items()
    }


def check_loss(
    ours: Loss,
    exact: Loss,
    dense: Loss,
    leaves: Leaves,
    dtype: torch.dtype,
    backend: str,
    terms: float = 0.0,
) -> None:
    """Error of `ours` <= error of `dense` in the statistics dtype + the tolerance; the truth is `exact` in float64.

    `terms`: the size of terms that cancel in every entry, which counts where it is larger than the truth.
    Per-item losses are weighted by random positive numbers, so that no gradient of one item hides another's.
    """
    high, plain = cast(leaves, torch.float64), cast(leaves, statistics_dtype(dtype))
    shape = exact(high).shape
    upstream = 0.5 + torch.rand(shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    value, grads = gradients(ours, leaves, upstream)
    true_value, true_grads = gradients(exact, high, upstream)
    dense_value, dense_grads = gradients(dense, plain, upstream)
    assert value.dtype == statistics_dtype(dtype)
    size = torch.tensor(terms * max(true_value.numel(), 1) ** 0.5)
    error, allowed = (norm_error(x, true_value, size) for x in (value, dense_value))
    assert error <= allowed + tolerance_for(dtype, backend).value, f"value: {error} against {allowed}"
    errors = {name: norm_error(dense_grads[name], truth) for name, truth in true_grads.items()}
    for name, truth in true_grads.items():
        assert grads[name].dtype == leaves[name].dtype, name
        # what lies below the normal range of fp16 is rounded as its smallest normal number
        least = max(torch.finfo(leaves[name].dtype).smallest_normal, terms)
        size = torch.tensor(least * truth.numel() ** 0.5)
        tolerance = tolerance_for(leaves[name].dtype, backend).grad
        # the error of one number is a single draw; the same rounded scores show in all gradients of the dense formula
        error, allowed = norm_error(grads[name], truth, size), errors[name] if truth.dim() else max(errors.values())
        assert error <= allowed + tolerance, f"{name}: {error} against {allowed}"

"""Backward formulas that are not differentiable themselves, and say so when they are differentiated."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def differentiable_once(backward: Callable[..., tuple[Any, ...]]) -> Callable[..., tuple[Any, ...]]:
    """Like `torch.autograd.function.once_differentiable`, but it also refuses where no upstream gradient requires
    grad: `create_graph=True` on a loss that is linear in its statistics would otherwise return, in silence, gradients
    without a graph. Needs at least one differentiable input among the saved tensors."""

    @functools.wraps(backward)
    def wrapper(ctx: Any, *upstream: Any) -> tuple[Any, ...]:
        with torch.no_grad():
            gradients = backward(ctx, *upstream)
        if torch.compiler.is_compiling() or not torch.is_grad_enabled():
            return gradients
        sources = [t for t in (*upstream, *ctx.saved_tensors) if t is not None and t.requires_grad]
        return tuple(None if g is None else _RefuseBackward.apply(g, *sources) for g in gradients)  # type: ignore[no-untyped-call]

    return wrapper


class _RefuseBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gradient: Tensor, *sources: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, *upstream: Any) -> Any:
        raise RuntimeError(
            "contrastive_ops gradients are once_differentiable: got a second differentiation, expected one. "
            "Compute the loss densely where a double backward (a gradient penalty, a Hessian) is needed"
        )

"""Backward formulas that are not differentiable themselves, and say so when they are differentiated."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor

from contrastive_ops.ops.rule import Rule
from contrastive_ops.ops.transforms import is_transformed, refuse_batched_backward

Gradients = tuple[Tensor | None, ...]


def differentiable_once(backward: Callable[..., Gradients]) -> Callable[..., Gradients]:
    """Like `torch.autograd.function.once_differentiable`, but it also refuses where no upstream gradient requires
    grad: `create_graph=True` on a loss that is linear in its statistics would otherwise return, in silence, gradients
    without a graph. Needs at least one differentiable input among the saved tensors.

    The formula is `backward(ctx, saved, *upstream)`: saved tensors are read once, because checkpointing recomputes them
    for one reader.
    """

    @functools.wraps(backward)
    def wrapper(ctx: Any, *upstream: Any) -> Gradients:
        saved = ctx.saved_tensors
        if torch.compiler.is_compiling():
            with torch.no_grad():
                return backward(ctx, saved, *upstream)
        refuse_batched_backward()
        if not (torch.is_grad_enabled() or is_transformed()):
            return backward(ctx, saved, *upstream)
        return _Formula.apply(functools.partial(backward, ctx), len(saved), *saved, *upstream)

    return wrapper


class _Formula(Rule):
    """Gradients whose dependence on what they are made of is not said."""

    num_outputs = None

    @staticmethod
    def run(formula: Callable[..., Gradients], count: int, *tensors: Tensor | None) -> tuple[Gradients, tuple[()]]:
        with torch.no_grad():
            return formula(tensors[:count], *tensors[count:]), ()

    @staticmethod
    def keep(*_: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *upstream: Any) -> NoReturn:
        raise RuntimeError(
            "contrastive_ops gradients are once_differentiable: got a second differentiation, expected one. "
            "Compute the loss densely where a double backward (a gradient penalty, a Hessian) is needed"
        )

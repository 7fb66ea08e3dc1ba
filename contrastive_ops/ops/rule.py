"""A step and its formula backward, said once for plain autograd, for compiled graphs and for `torch.func`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd import Function

from contrastive_ops.ops.transforms import is_transformed, refuse_forward_mode, refuse_vmap


class Rule:
    """What an autograd.Function is made of; a subclass is a namespace of three static methods, never an instance.

        run(*args) -> (outputs, kept)         two tuples; `kept` is for backward alone
        keep(ctx, args, outputs, kept)        ctx.save_for_backward(...) of these and no other tensors, ctx.name = ...
        backward(ctx, *upstream)              gradients of the args, as in an autograd.Function

    `torch.func` asks for `run` and `keep` apart, because inside its transforms args are not the tensors that ran;
    forward mode and `vmap` are refused. Plain autograd gets both in one, which costs 15 us less a call.
    """

    num_outputs: ClassVar[int | None] = 1  # negative: all but so many that are kept; None where nothing is kept
    run: ClassVar[Callable[..., tuple[tuple[Any, ...], tuple[Any, ...]]]]
    keep: ClassVar[Callable[..., None]]
    backward: ClassVar[Callable[..., tuple[Any, ...]]]
    _plain: ClassVar[type[Function]]
    _transformed: ClassVar[type[Function] | None] = None

    @classmethod
    def count_outputs(cls, args: tuple[Any, ...]) -> int | None:
        """`num_outputs`, where it is not the same for all args."""
        return cls.num_outputs

    def __init_subclass__(cls) -> None:
        cls._plain = _plain(cls.__name__, cls.run, cls.keep, cls.backward)

    @classmethod
    def apply(cls, *args: Any) -> tuple[Any, ...]:
        """The outputs, with a graph where an arg requires grad."""
        if is_transformed():
            if torch.compiler.is_compiling():  # in a level of forward mode: others are not compiled
                refuse_forward_mode()
            if cls._transformed is None:  # what keeps Dynamo out imports it, which torch.func has done by now
                cls._transformed = _transformed(cls)
            outputs: tuple[Any, ...] = cls._transformed.apply(*args)
            return outputs[: cls.count_outputs(args)]
        if torch.is_grad_enabled():
            for arg in args:
                if isinstance(arg, Tensor) and arg.requires_grad:
                    return cls._plain.apply(*args)  # type: ignore[no-any-return]
        # no Function: torch.compile miscounts the arguments of one without a gradient (seen in torch 2.4 to 2.14)
        return cls.run(*args)[0]


def refuse_transformed(*tensors: Tensor) -> None:
    """Raise where one of them has a tangent or is a batch of `vmap`."""
    if is_transformed():
        _Views.apply(*tensors)


def _plain(name: str, run: Any, keep: Any, backward: Any) -> type[Function]:
    def forward(ctx: Any, *args: Any) -> tuple[Any, ...]:
        outputs, kept = run(*args)
        keep(ctx, args, outputs, kept)
        return outputs  # type: ignore[no-any-return]

    return type(name, (Function,), {"forward": staticmethod(forward), "backward": staticmethod(backward)})


def _transformed(rule: type[Rule]) -> type[Function]:
    """Here what is kept has to be an output too."""

    def forward(*args: Any) -> tuple[Any, ...]:
        outputs, kept = rule.run(*args)
        # an arg itself is no output that torch would keep
        return (*outputs, *(None if value is None else value.view_as(value) for value in kept))

    def setup_context(ctx: Any, args: tuple[Any, ...], results: tuple[Any, ...]) -> None:
        ctx.num_outputs = rule.count_outputs(args)
        rule.keep(ctx, args, results[: ctx.num_outputs], results[ctx.num_outputs :])

    def backward(ctx: Any, *upstream: Any) -> tuple[Any, ...]:
        return rule.backward(ctx, *upstream[: ctx.num_outputs])

    methods: dict[str, Callable[..., Any]] = {"jvp": refuse_forward_mode, "vmap": refuse_vmap}
    for method in (forward, setup_context, backward):
        # torch.func hides its levels while these run: Dynamo, which leaves alone what is inside a level, would trace
        # them and end in an assertion of torch's
        methods[method.__name__] = torch.compiler.disable(method)
    return type(rule.__name__, (Function,), {key: staticmethod(method) for key, method in methods.items()})


class _Views(Rule):
    num_outputs = None

    @staticmethod
    def run(*tensors: Tensor) -> tuple[tuple[Tensor, ...], tuple[()]]:
        return tuple(tensor.view_as(tensor) for tensor in tensors), ()

    @staticmethod
    def keep(*_: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *upstream: Any) -> tuple[Any, ...]:
        return upstream

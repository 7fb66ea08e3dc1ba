"""Transforms of functions (`torch.func`, forward mode) and traces: which are active, and how those without a rule are
refused.

An operator without a rule would drop a tangent in silence, and run once for every item of a batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.autograd import forward_ad

REMEDY = (
    "expected reverse mode alone (backward, torch.func.grad, torch.func.vjp): "
    "compute the loss densely where more is needed"
)
_VMAP_MODE: Any = torch._C._parse_dispatch_key("VmapMode")
_PROXY_MODE = torch._C._TorchDispatchModeKey.PROXY


def is_transformed() -> bool:
    """Whether a tensor may have a tangent or belong to a transform of `torch.func`.

    While a graph is compiled, too: inside `torch.func` the compiler knows no number for the level, gives up, and the
    function runs as it is.
    """
    return torch._C._functorch.maybe_current_level() is not None or forward_ad._current_level >= 0


def is_traced() -> bool:
    """Whether `make_fx` records what is done, so that no number can be read."""
    return torch._C._get_dispatch_mode(_PROXY_MODE) is not None


def has_values(value: Tensor) -> bool:
    """Whether the numbers of a tensor can be read: it stands neither for a batch of `vmap` nor in a trace."""
    return not is_traced() and not any(torch._C._functorch.is_batchedtensor(layer) for layer in _layers(value))


def require_grad(values: Iterable[Tensor | None]) -> list[bool]:
    """Of each, whether its gradient can be asked for, by an enclosing transform too."""
    if is_transformed():
        return [value is not None and any(layer.requires_grad for layer in _layers(value)) for value in values]
    return [value is not None and value.requires_grad for value in values]


def requires_grad(*values: Tensor | None) -> bool:
    """Whether that of any can."""
    return any(require_grad(values))


def _layers(value: Tensor) -> Iterator[Tensor]:
    """A tensor as every transform sees it, the innermost first."""
    yield value
    while torch._C._functorch.is_functorch_wrapped_tensor(value):
        value = torch._C._functorch.get_unwrapped(value)
        yield value


def refuse_batched_backward() -> None:
    """Raise in a backward pass of `is_grads_batched`, which is no transform of `torch.func`."""
    if torch._C._dispatch_tls_local_include_set().has(_VMAP_MODE):
        refuse_vmap()


def refuse_trace() -> None:
    """Raise in a trace, where numbers decide what is done."""
    if is_traced():
        raise RuntimeError(
            "contrastive_ops functions over ranks read what the ranks agree on: got a trace (make_fx, linearize), "
            "expected tensors with values: trace the loss of one process"
        )


def refuse_forward_mode(*_: Any) -> NoReturn:
    """The `jvp` of an autograd.Function."""
    raise RuntimeError(
        f"contrastive_ops functions have no tangents: got forward mode (jvp, jacfwd, linearize, dual tensors), {REMEDY}"
    )


def refuse_vmap(*_: Any) -> NoReturn:
    """The `vmap` of an autograd.Function."""
    raise RuntimeError(
        f"contrastive_ops functions do not run in batches: got vmap (or jacrev, is_grads_batched), {REMEDY}"
    )

"""What makes the host wait for a GPU, or cannot be captured in a CUDA graph: raised where it is called.

No GPU is needed to see it. Tensors of a device that is not there (fake ones, or those of the meta device) go the way of
those on a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# their shapes or their results depend on values: `item`, `nonzero`, `unique`, `equal`, ... (indexing is tagged as well,
# for the sake of masks)
READS_VALUES = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)
INDEXING = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")
# on a GPU they return when the host has seen whether they succeeded
CHECKED_BY_THE_HOST = ("aten::_linalg_eigh", "aten::_linalg_svd", "aten::_linalg_check_errors")
# a number on the CPU is an argument of an elementwise kernel; these copy it
COPIES = ("aten::_to_copy", "aten::copy_", "aten::where")
# no operators: what they do in C++ a dispatch mode does not see
MADE_ON_THE_HOST = (torch.tensor, torch.as_tensor, Tensor.new_tensor)
READ_BY_THE_HOST = (Tensor.tolist, Tensor.numpy)
OWN_NAMESPACE = "contrastive_ops"


class HostWaits(Exception):
    """Something waits; not an error that the library raises or expects."""


@contextmanager
def no_host_waits(*, inside: bool) -> Iterator[None]:
    """Raises `HostWaits` at what waits. With `inside` our own operators are run as on a GPU, and what they call is
    looked at as well; without it each is one call, and its fake says its shapes."""
    with _Functions(), _Operators(inside):
        yield


class _Functions(TorchFunctionMode):
    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function in READ_BY_THE_HOST:
            raise HostWaits(f"{function} reads values")
        result = function(*args, **(kwargs or {}))
        if function in MADE_ON_THE_HOST and result.device.type != "cpu":
            raise HostWaits(f"{function} copies from the host")
        return result


class _Operators(TorchDispatchMode):
    def __init__(self, inside: bool) -> None:
        super().__init__()
        self.inside = inside

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self.inside and function.namespace == OWN_NAMESPACE:
            with self:
                return function._op_dk(torch.DispatchKey.CompositeExplicitAutograd, *args, **kwargs)
        name = function._schema.name
        if reason := _reads(function, name, args):
            raise HostWaits(f"{function} {reason}")
        result = function(*args, **kwargs)
        devices = {x.device.type for x in _tensors((args, kwargs, result)) if name in COPIES or not _is_number(x)}
        if len(devices) > 1:
            raise HostWaits(f"{function} copies between {' and '.join(sorted(devices))}")
        return result


def _reads(function: Any, name: str, args: tuple[Any, ...]) -> str | None:
    if name in INDEXING:
        is_mask = any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1])
        return "counts what a mask holds" if is_mask else None
    if name in CHECKED_BY_THE_HOST:
        return "is checked by the host"
    return "reads values" if any(tag in function.tags for tag in READS_VALUES) else None


def _is_number(value: Tensor) -> bool:
    return value.dim() == 0 and value.device.type == "cpu"


def _tensors(values: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor))

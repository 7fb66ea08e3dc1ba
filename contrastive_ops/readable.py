"""Whether the host may look at the values of a tensor."""

from __future__ import annotations

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor


def is_readable(value: Tensor) -> bool:
    """Whether there are values, and reading them neither waits for a device nor ties a trace or a transform of
    `torch.func` to them."""
    return not (
        torch.compiler.is_compiling()
        or torch._C._is_tracing()
        or value.device.type != "cpu"
        or isinstance(value, FakeTensor)
        or torch._C._len_torch_dispatch_stack() > 0  # a mode that records or fakes what is done
        or torch._C._functorch.is_functorch_wrapped_tensor(value)
    )

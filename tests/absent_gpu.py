"""Tensors of a GPU that is not there: fake ones, which may require grad, in any build of torch.

Indexing and autograd ask the registered guard of a device to make it the current one, and that of CUDA is missing, or
fails. Newer versions of `FakeTensorMode` give a torch that was built for GPUs and finds none a guard that does nothing;
elsewhere that of the meta device, which does nothing either, stands in for it. Backward stays out of reach: autograd's
engine asks for an accelerator.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

CUDA, META = 1, 14  # of c10::DeviceType
REGISTRY = "_ZN3c104impl26device_guard_impl_registryE"  # c10::impl::device_guard_impl_registry, an array of pointers


@contextmanager
def fake_gpu() -> Iterator[None]:
    """Inside, `device="cuda"` makes fake tensors."""
    (library,) = (Path(torch.__file__).parent / "lib").glob("libc10.*")
    guards = (ctypes.c_void_p * (META + 1)).in_dll(ctypes.CDLL(str(library)), REGISTRY)
    with FakeTensorMode():
        before = guards[CUDA]
        if not torch.cuda.is_available():
            guards[CUDA] = guards[META]
        try:
            yield
        finally:
            guards[CUDA] = before

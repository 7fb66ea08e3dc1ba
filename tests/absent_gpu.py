"""Tensors of a GPU that is not there, with gradients: fake ones, in a torch of the CPU alone as well.

Indexing and autograd ask the registered guard of a device to make it the current one. `FakeTensorMode` gives a torch
that was built for GPUs and finds none a guard that does nothing; a torch of the CPU alone has no place for one in its
Python, so that of the meta device, which does nothing either, is registered for both.
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
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libc10.so"))
    guards = (ctypes.c_void_p * (META + 1)).in_dll(library, REGISTRY)
    before = guards[CUDA]
    if before is None:
        guards[CUDA] = guards[META]
    try:
        with FakeTensorMode():
            yield
    finally:
        guards[CUDA] = before

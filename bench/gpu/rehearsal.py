"""The GPU backends without a GPU: Triton's kernels in its interpreter, the CUDA kernels on the tests' emulator."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from bench import REPOSITORY
from contrastive_ops.backends import BACKENDS

TESTS = REPOSITORY / "tests"
ENVIRONMENT = {"TRITON_INTERPRET": "1", "OPENBLAS_NUM_THREADS": "1"}  # of a process, before it imports triton


def prepare(device: torch.device) -> None:
    """For this process, once."""
    if device.type != "cpu":
        return
    with tests_importable():
        from triton_interpreter import call_device_functions_directly, correct_bfloat16

        correct_bfloat16()
        call_device_functions_directly()
        try:
            import emulated_cuda  # needs pytest
        except ImportError:
            return  # the cuda backend says itself that it does not take CPU tensors
        if emulated_cuda.missing() is None:
            BACKENDS["cuda"] = emulated_cuda.emulated_backend(emulated_cuda.load(), has_hopper=False)


@contextmanager
def tests_importable() -> Iterator[None]:
    sys.path.insert(0, str(TESTS))
    try:
        yield
    finally:
        sys.path.remove(str(TESTS))

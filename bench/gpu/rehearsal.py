"""The GPU backends without a GPU: Triton's kernels in its interpreter, the CUDA kernels on the tests' emulator."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from bench import REPOSITORY
from bench.gpu.case import Case, Row, Setting, Skipped
from bench.gpu.stage import Stage
from contrastive_ops.backends import BACKENDS

TESTS = REPOSITORY / "tests"
ENVIRONMENT = {"TRITON_INTERPRET": "1", "OPENBLAS_NUM_THREADS": "1"}  # of a process, before it imports triton


# the first process builds the emulator, which takes a minute where that has not been done
STAGE = Stage("rehearsal", f"{__name__}:cases", 200)


def cases(setting: Setting) -> list[Case]:
    def emulator() -> Row:
        if reason := _missing_emulator():
            raise Skipped(reason)
        return {"built": True}

    return [Case({"what": "emulator of the CUDA kernels"}, emulator)]


def prepare(device: torch.device) -> None:
    """For this process, once."""
    if device.type != "cpu":
        return
    with tests_importable():
        from triton_interpreter import call_device_functions_directly

        call_device_functions_directly()
        if _missing_emulator() is None:  # else the cuda backend says itself that it does not take CPU tensors
            import emulated_cuda

            BACKENDS["cuda"] = emulated_cuda.emulated_backend(emulated_cuda.load(), has_hopper=False)


def _missing_emulator() -> str | None:
    with tests_importable():
        try:
            import emulated_cuda
        except ImportError as error:
            return str(error)  # pytest, for one
        reason: str | None = emulated_cuda.missing()
        return reason


@contextmanager
def tests_importable() -> Iterator[None]:
    sys.path.insert(0, str(TESTS))
    try:
        yield
    finally:
        sys.path.remove(str(TESTS))

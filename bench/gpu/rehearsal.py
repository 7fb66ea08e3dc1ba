"""The GPU backends without a GPU: Triton's kernels in its interpreter, the CUDA kernels on the emulator."""

from __future__ import annotations

import torch

from bench.gpu.case import Case, Row, Setting, Skipped
from bench.gpu.stage import Stage
from contrastive_ops.backends import BACKENDS
from contrastive_ops.testing import emulated_cuda

ENVIRONMENT = {"TRITON_INTERPRET": "1", "OPENBLAS_NUM_THREADS": "1"}  # of a process, before it imports triton

# the first process builds the emulator, which takes a minute where that has not been done
STAGE = Stage("rehearsal", f"{__name__}:cases", 200)


def cases(setting: Setting) -> list[Case]:
    def emulator() -> Row:
        if reason := emulated_cuda.missing():
            raise Skipped(reason)
        return {"built": True}

    return [Case({"what": "emulator of the CUDA kernels"}, emulator)]


def prepare(device: torch.device) -> None:
    """For this process, once."""
    if device.type != "cpu":
        return
    from contrastive_ops.testing.triton_interpreter import call_device_functions_directly

    call_device_functions_directly()
    if emulated_cuda.missing() is None:  # else the cuda backend says itself that it does not take CPU tensors
        BACKENDS["cuda"] = emulated_cuda.emulated_backend(emulated_cuda.load(), has_hopper=False)

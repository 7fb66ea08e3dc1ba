"""Whether the CUDA C++ kernels can run a problem, and which of them."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any

import torch

from contrastive_ops.backends.base import missing_reductions
from contrastive_ops.backends.cuda.codes import HOPPER, runs_on
from contrastive_ops.backends.cuda.launch import CudaKernels
from contrastive_ops.backends.extension import PACKAGE, check_own
from contrastive_ops.backends.gpu.backend import GpuBackend
from contrastive_ops.backends.gpu.kernels import Kernels
from contrastive_ops.problem import Problem

_cuda: Any = None
MAX_LINES = 2**30  # sums of two sizes must fit into 32 bits (check_size in csrc/cuda/mainloop.h)
_NOT_BUILT = "the CUDA kernels are not built: reinstall from source with nvcc on PATH, or CUDA_HOME set"
if find_spec("contrastive_ops._cuda") is not None:
    try:
        from contrastive_ops import _cuda

        check_own(_cuda)
    except ImportError as error:
        _cuda = None
        _NOT_BUILT = f"the CUDA kernels do not load in the contrastive_ops imported from {PACKAGE} ({error})"


class CudaBackend(GpuBackend):
    """`module` and `device_type` are for the tests, which run the same kernels on a CPU emulator."""

    name = "cuda"
    summary = "CUDA C++ (sm_80 and later; TMA and wgmma on sm_90a); O((M+N)*D) memory"

    def __init__(self, module: Any = _cuda, device_type: str = "cuda", has_hopper: bool | None = None) -> None:
        self.module = module
        self.device_type = device_type
        self.has_hopper = has_hopper  # None: as the device says

    def missing(self) -> str | None:
        return _NOT_BUILT if self.module is None else None

    def reasons(self, problem: Problem) -> list[str]:
        missing = self.missing()
        reasons = [] if missing is None else [missing]
        device = problem.scale.device
        if device.type != self.device_type:
            reasons.append(f"tensors must be on a {self.device_type.upper()} device, got {device}")
        elif device.type == "cuda":
            reasons += _device_reasons(device, () if self.module is None else tuple(self.module.CODES))
        _, m, n, d = problem.sizes
        if max(m, n, d) > MAX_LINES:
            reasons.append(f"at most 2^30 queries, keys and dimensions, got {m}, {n} and {d}")
        return reasons + missing_reductions(problem, self.reductions)

    def kernels(self, problem: Problem) -> Kernels:
        device = problem.scale.device
        on_gpu = device.type == "cuda" and torch.cuda.is_available()  # a fake tensor needs none
        stream = torch.cuda.current_stream(device).cuda_stream if on_gpu else 0
        has_hopper = _is_hopper(device) and HOPPER in self.module.CODES if self.has_hopper is None else self.has_hopper
        return CudaKernels(self.module, problem.dtype, stream, has_hopper)


@cache
def _device_reasons(device: torch.device, codes: tuple[str, ...]) -> list[str]:
    """Why the kernels that were built do not run on this GPU."""
    if torch.version.hip is not None:
        return ["CUDA C++ kernels run on NVIDIA GPUs, got an AMD GPU: the triton backend runs there"]
    if not torch.cuda.is_available():
        return []  # a fake tensor: nothing will run
    major, minor = torch.cuda.get_device_capability(device)
    if major < 8:
        return [f"GPUs of compute capability 8.0 and later are supported, got {major}.{minor}"]
    if codes and not any(runs_on(code, (major, minor)) for code in codes):
        return [
            f"the CUDA kernels are built for {', '.join(codes)}, the GPU has compute capability {major}.{minor}: "
            f"reinstall with TORCH_CUDA_ARCH_LIST unset, or with {major}.{minor} in it"
        ]
    return []


@cache
def _is_hopper(device: torch.device) -> bool:
    return torch.cuda.is_available() and torch.cuda.get_device_capability(device) == (9, 0)

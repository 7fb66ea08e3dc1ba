"""Whether the Triton kernels can run a problem, and which ones."""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec

import torch

from contrastive_ops.backends.gpu.backend import GpuBackend
from contrastive_ops.backends.gpu.kernels import Kernels
from contrastive_ops.backends.triton.tiles import INTERPRETER
from contrastive_ops.problem import Problem
from contrastive_ops.scores import ScoreKind

INTERPRET_VARIABLE = "TRITON_INTERPRET"  # triton's own


class TritonBackend(GpuBackend):
    name = "triton"
    summary = "Triton kernels for NVIDIA (sm_80 and later) and AMD (gfx9) GPUs; O((M+N)*D) memory + budget"

    def reasons(self, problem: Problem) -> list[str]:
        reasons = []
        if not _has_triton():
            reasons.append("triton is not installed: pip install 'triton>=3.8'")
        if problem.score.kind is not ScoreKind.DOT:
            reasons.append("the volume score is not offered")
        device = problem.queries.device
        if device.type == "cuda":
            reasons += _device_reasons(device)
        elif device.type != "cpu":
            reasons.append(f"tensors must be on a CUDA or HIP device, got {device}")
        elif not _is_interpreted():
            reasons.append(f"tensors must be on a CUDA or HIP device, got cpu ({INTERPRET_VARIABLE}=1 is for tests)")
        return reasons

    def kernels(self, problem: Problem) -> Kernels:
        # imports triton, which a process that never uses this backend need not do
        from contrastive_ops.backends.triton.launch import Target, TritonKernels

        dtype = problem.queries.dtype
        if dtype == torch.float32:
            precision = "fp32" if torch.get_float32_matmul_precision() == "highest" else "tf32"
        else:
            precision = "fp64" if dtype == torch.float64 else "half"
        arch = INTERPRETER if problem.queries.device.type == "cpu" else _arch(problem.queries.device)
        return TritonKernels(Target(arch, precision, "tf32" if precision == "tf32" else "ieee"))


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


def _is_interpreted() -> bool:
    return os.environ.get(INTERPRET_VARIABLE, "0") == "1"


@cache
def _device_reasons(device: torch.device) -> list[str]:
    """Why the kernels do not run on this GPU."""
    if torch.version.hip is not None:
        arch = torch.cuda.get_device_properties(device).gcnArchName
        return [] if arch.startswith("gfx9") else [f"AMD GPUs of the gfx9 family are supported, got {arch}"]
    if not torch.cuda.is_available():
        return []  # a fake tensor: nothing will run
    major, minor = torch.cuda.get_device_capability(device)
    return [] if major >= 8 else [f"NVIDIA GPUs of compute capability 8.0 and later are supported, got {major}.{minor}"]


@cache
def _arch(device: torch.device) -> str:
    """The row of the tile table: the newest architecture listed that this one is not older than."""
    if torch.version.hip is not None:
        return "gfx942"
    if not torch.cuda.is_available():
        return "sm_80"  # a fake tensor: any will do
    major, minor = torch.cuda.get_device_capability(device)
    # 8.6, 8.9 and 12.x share the instructions of 8.0 but hold 99 KB of shared memory
    return {8: "sm_80" if minor == 0 else "sm_86", 9: "sm_90", 12: "sm_86"}.get(major, "sm_100")

"""Whether the Triton kernels can run a problem, and which ones."""

from __future__ import annotations

import os
import re
import shutil
import sysconfig
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import torch

from contrastive_ops.backends.base import missing_reductions
from contrastive_ops.backends.gpu.backend import GpuBackend
from contrastive_ops.backends.gpu.kernels import Kernels
from contrastive_ops.backends.triton.tiles import INTERPRETER
from contrastive_ops.problem import Problem

INTERPRET_VARIABLE = "TRITON_INTERPRET"  # triton's own
OLDEST_TRITON = (3, 6)
TORCH_OF_OLDEST_TRITON = "2.10"


class TritonBackend(GpuBackend):
    name = "triton"
    summary = "Triton kernels for NVIDIA (sm_80 and later) and AMD (gfx9) GPUs; O((M+N)*D) memory + budget"

    def missing(self) -> str | None:
        return _missing()

    def reasons(self, problem: Problem) -> list[str]:
        missing = self.missing()
        reasons = [] if missing is None else [missing]
        device = problem.scale.device
        if device.type == "cuda":
            reasons += _device_reasons(device)
        elif device.type != "cpu":
            reasons.append(f"tensors must be on a CUDA or HIP device, got {device}")
        elif not _is_interpreted():
            reasons.append(f"tensors must be on a CUDA or HIP device, got cpu ({INTERPRET_VARIABLE}=1 is for tests)")
        return reasons + missing_reductions(problem, self.reductions)

    def kernels(self, problem: Problem) -> Kernels:
        # imports triton, which a process that never uses this backend need not do
        from contrastive_ops.backends.triton.arguments import Target
        from contrastive_ops.backends.triton.kernels import TritonKernels

        dtype, device = problem.dtype, problem.scale.device
        if device.type == "cpu":
            from contrastive_ops.backends.triton.interpreter import correct_interpreter

            correct_interpreter()
        if dtype == torch.float32:
            wants_tf32 = torch.get_float32_matmul_precision() != "highest"
            precision = "tf32" if wants_tf32 and _has_tf32(device) else "fp32"
        else:
            precision = "fp64" if dtype == torch.float64 else "half"
        arch = INTERPRETER if device.type == "cpu" else _arch(device)
        return TritonKernels(Target(arch, precision, "tf32" if precision == "tf32" else "ieee"))


@cache
def _missing() -> str | None:
    if find_spec("triton") is None:
        return f"triton is not installed: pip install 'triton>={_dotted(OLDEST_TRITON)}'"
    try:
        found = str(import_module("triton").__version__)
    except Exception as error:  # whatever an installation that does not fit its torch or Python raises
        return f"triton does not import ({type(error).__name__}: {error}): reinstall it"
    if tuple(map(int, re.findall(r"\d+", found)[:2])) < OLDEST_TRITON:
        oldest = _dotted(OLDEST_TRITON)
        return (
            f"triton {found} is installed, {oldest} or later is needed: install torch {TORCH_OF_OLDEST_TRITON} or "
            f"later, which brings it, or pip install 'triton>={oldest}'"
        )
    if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        return "triton builds its launcher with a C compiler and finds none: install gcc or clang, or set CC"
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        return "triton builds its launcher with Python's headers and finds none: install them (python3-dev on Debian)"
    return None


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


@cache
def _has_tf32(device: torch.device) -> bool:
    """Of AMD GPUs Triton multiplies in TF32 on the gfx942 alone."""
    return torch.version.hip is None or device.type == "cpu" or _amd_arch(device) == "gfx942"


def _amd_arch(device: torch.device) -> str:
    return str(torch.cuda.get_device_properties(device).gcnArchName).partition(":")[0]


def _is_interpreted() -> bool:
    return os.environ.get(INTERPRET_VARIABLE, "0") == "1"


@cache
def _device_reasons(device: torch.device) -> list[str]:
    """Why the kernels do not run on this GPU."""
    if torch.version.hip is not None:
        arch = _amd_arch(device)
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

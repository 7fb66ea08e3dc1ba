"""The CUDA kernels of `csrc/cuda` on the emulator, as a backend that takes CPU tensors.

The binding is the one that ships; only the instructions beneath the kernels are software.
"""

from __future__ import annotations

import ctypes
import importlib.util
import sysconfig
from types import ModuleType

from contrastive_ops.backends.cuda import CudaBackend
from contrastive_ops.testing.emulator_builds import ROOT, build_from, reason_to_skip

MODULE = "_cuda_emulated"


def missing() -> str | None:
    """What the emulator lacks here; None if nothing."""
    if importlib.util.find_spec("pybind11") is None:
        return "pybind11 is not installed"
    return reason_to_skip("plain")


def load() -> ModuleType:
    """The module, built anew if a source has changed."""
    import pybind11

    binding = ROOT / "csrc" / "cuda" / "binding.cpp"
    python = [f"-isystem{folder}" for folder in (pybind11.get_include(), sysconfig.get_path("include"))]
    defines = [f"-DCONTRASTIVE_CUDA_MODULE={MODULE}", "-DCONTRASTIVE_CUDA_CODES='\"\"'"]
    sources = {**dict.fromkeys(sorted(binding.parent.glob("*.cu")), ()), binding: (*defines, *python)}
    path = build_from("plain", f"{MODULE}.so", sources, ["-shared"])
    spec = importlib.util.spec_from_file_location(MODULE, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def emulated_backend(module: ModuleType, *, has_hopper: bool) -> CudaBackend:
    return CudaBackend(module, "cpu", has_hopper)


class HostCounts(ctypes.Structure):
    """CudaEmulatorCounts in cuda_emulator/host.h: what the host code asked of its runtime so far."""

    NAMES = ("launches", "allowances", "fills", "tensor_maps")
    _fields_ = tuple((name, ctypes.c_int64) for name in NAMES)

    def __sub__(self, before: HostCounts) -> HostCounts:
        return HostCounts(*(getattr(self, name) - getattr(before, name) for name in self.NAMES))


def host_counts(module: ModuleType) -> HostCounts:
    count = ctypes.CDLL(str(module.__file__)).cuda_emulator_counts
    count.restype = HostCounts
    found: HostCounts = count()
    return found

"""The float32 FMA peak of this processor, measured beside every sample: the yardstick of the shares."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from typing import Any

SECONDS = 0.03  # holds a few of the 10 ms windows of which the best counts
ISA_VARIABLE = "CONTRASTIVE_OPS_CPU_ISA"  # the kernels obey it too; by default the best of the processor

PeakMeter = Callable[[], float]


def peak_isa() -> str:
    """The instruction set that the peak is measured with."""
    native = _native_module()
    return str(native.kernels(os.environ.get(ISA_VARIABLE) or None).name)


def fma_peak_meter(threads: int) -> PeakMeter:
    """A function that measures the peak of `threads` threads together, in GFLOP/s."""
    measure = _native_module().fma_peak
    isa = os.environ.get(ISA_VARIABLE) or None
    return lambda: float(measure(SECONDS, threads, isa))


def _native_module() -> Any:
    try:
        native = import_module("contrastive_ops._native")
    except ImportError as error:
        raise RuntimeError(
            f"the FMA peak needs the native extension, which is not built ({error}): "
            "build it (`pip install -e .`), or pass --no-peak to go without shares of the peak"
        ) from error
    if not hasattr(native, "fma_peak"):
        raise RuntimeError(f"the native extension at {native.__file__} has no fma_peak: rebuild it, or pass --no-peak")
    return native

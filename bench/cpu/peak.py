"""The float32 FMA peak of this processor, measured beside every sample: the yardstick of the shares."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from contrastive_ops.backends.cpu import wished_isa

SECONDS = 0.03  # holds a few of the 10 ms windows of which the best counts

PeakMeter = Callable[[], float]


def peak_isa() -> str:
    """The instruction set that the peak is measured with."""
    native = _native_module()
    return str(native.kernels(wished_isa()).name)


def fma_peak_meter(threads: int) -> PeakMeter:
    """A function that measures the peak of `threads` threads together, in GFLOP/s."""
    measure = _native_module().fma_peak
    return lambda: float(measure(SECONDS, threads, wished_isa()))


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

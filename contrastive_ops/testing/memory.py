"""Peak resident memory that one step adds to this process. Linux only.

The peak (VmHWM) is reset and the resident size read when inputs exist and are touched and libraries are warm; what the
step adds includes its gradients.
"""

from __future__ import annotations

import ctypes
import gc
import os
import time
from collections.abc import Callable
from typing import NamedTuple


class AddedMemory(NamedTuple):
    """Of one step."""

    bytes: int
    seconds: float  # of that one cold step: for orientation only


def can_measure() -> bool:
    """Whether the system can reset the peak of a process."""
    return os.access("/proc/self/clear_refs", os.W_OK)


def added_by(step: Callable[[], None]) -> AddedMemory:
    """What a step adds to the peak of this process."""
    _return_free_memory()
    before = _status_bytes("VmRSS")
    with open("/proc/self/clear_refs", "w") as control:
        control.write("5")  # resets VmHWM to the present size
    start = time.perf_counter()
    step()
    seconds = time.perf_counter() - start
    return AddedMemory(_status_bytes("VmHWM") - before, seconds)


def _return_free_memory() -> None:
    """Free memory that stays in the process would be reused by the step and hide what it needs."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
    if trim is not None:
        trim(0)


def _status_bytes(name: str) -> int:
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))

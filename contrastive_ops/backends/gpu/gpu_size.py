"""What macro-blocks are planned for."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch

MIB = 1 << 20


class GpuSize(NamedTuple):
    multiprocessors: int
    # weights of a macro-block: half of the second-level cache, so that the products find them there
    macro_bytes: int


H100 = GpuSize(132, 25 * MIB)
LEAST_MACRO_BYTES = 16 * MIB  # where the cache is smaller, or not known: many small launches would cost more


@cache
def gpu_size(device: torch.device) -> GpuSize:
    """Of a GPU that is not there (tests, fake tensors) that of an H100."""
    if device.type != "cuda" or not torch.cuda.is_available():
        return H100
    properties = torch.cuda.get_device_properties(device)
    cache_bytes = getattr(properties, "L2_cache_size", 0)  # of torch 2.5 and later
    return GpuSize(properties.multi_processor_count, max(LEAST_MACRO_BYTES, cache_bytes // 2))

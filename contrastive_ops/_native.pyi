"""Types of `csrc/binding.cpp`."""

from typing import Any

class Block:
    def __init__(self, size: int) -> None: ...
    @property
    def address(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

class Params:
    def __init__(
        self,
        *,
        dtype: int,
        batch: int,
        m: int,
        n: int,
        d: int,
        score: int,
        banks: int,
        absolute: bool,
        threads: int,
        scale: float,
        has_positives: bool,
        directions: tuple[bool, bool],
        self_similarity: bool,
        block_m: int,
        block_n: int,
        groups: int,
        kept_tiles: int,
        scratch_bytes: int,
    ) -> None: ...
    def set_queries(self, data: int, batch_stride: int, row_stride: int, d_stride: int) -> None: ...
    def set_keys(self, data: int, batch_stride: int, bank_stride: int, row_stride: int, d_stride: int) -> None: ...
    add_candidate_clause: Any
    add_positive_clause: Any

class Kernels:
    @property
    def name(self) -> str: ...
    def panel(self, dtype: int) -> int: ...
    def scratch_bytes(self, dtype: int, score: int, banks: int, block_m: int, block_n: int) -> int: ...
    def forward(self, params: Params) -> None: ...
    def backward(self, params: Params) -> None: ...

def kernels(isa: str | None = None) -> Kernels: ...
def release_cached_blocks() -> None: ...
def fma_peak(seconds: float = 0.1, threads: int = 1, isa: str | None = None) -> float: ...

"""The compiled kernels: whether they are there, which instruction set they use, and the memory that they lend."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from contrastive_ops.backends.extension import PACKAGE, check_own

extension: Any = None
IMPORT_ERROR: ImportError | None = None
try:
    from contrastive_ops import _native

    check_own(_native)
except ImportError as error:
    IMPORT_ERROR = error
else:
    extension = _native

ISA_VARIABLE = "CONTRASTIVE_OPS_CPU_ISA"  # one of these; the best of the processor by default
ISAS = ("baseline", "avx2", "avx512")


def missing() -> str | None:
    """Why there are no kernels, and the remedy; None if there are."""
    if IMPORT_ERROR is None:
        return None
    remedy = "reinstall with a C++17 compiler"
    place = f"imported from {PACKAGE}"
    if (PACKAGE / "setup.py").exists():
        place = f"imported from the source tree {PACKAGE}"
        remedy = "pip install -e . builds it there; an installed copy is imported from another directory"
    return f"the native extension is not built in the contrastive_ops {place} ({IMPORT_ERROR}): {remedy}"


def wished_isa() -> str | None:
    """What the environment names; None for the best of the processor."""
    return os.environ.get(ISA_VARIABLE, "").strip().lower() or None


@cache
def kernels() -> Any:
    wish = wished_isa()
    try:
        return extension.kernels(wish)
    except ValueError as error:
        raise ValueError(
            f"{ISA_VARIABLE} must be {', '.join(ISAS)}, as far as the processor has them, or unset, got {wish!r}"
        ) from error


def instruction_set() -> str:
    """Of the kernels in use."""
    return str(kernels().name)


def new_block(size: int) -> Any:
    """`size` bytes of reusable memory that return to the cache when the block dies."""
    try:
        return extension.Block(size)
    except MemoryError as error:
        raise MemoryError(f"could not allocate {size} bytes: lower workspace_bytes, or take a smaller batch") from error


def release_workspace() -> None:
    """Return the cached workspaces (at most eight blocks, those of the last calls) to the operating system."""
    if extension is not None:
        extension.release_cached_blocks()

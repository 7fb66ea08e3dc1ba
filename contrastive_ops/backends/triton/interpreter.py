"""Corrections of Triton's interpreter (TRITON_INTERPRET=1), without which it computes wrong numbers, or none.

It keeps bfloat16 as uint16 and multiplies those integers in `tl.dot` (errors of 1e10); its conversion from float32 cuts
bits off, where GPUs round to the nearest even, and spoils subnormal numbers. Up to Triton 3.6 it also makes Python
numbers of arrays of one element for the ends of a range, which NumPy refuses from 2.4 on; and 3.9 makes integers of the
outcome of a comparison of two numbers where it meets a tile, which a mask must not be.

`tests/test_triton_interpreter.py` asks the interpreter without these corrections whether the first is still so.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import triton.language as tl
from triton.runtime import interpreter

_stock_convert = interpreter._convert_float
_stock_dot = interpreter.InterpreterBuilder.create_dot
_stock_binary = interpreter.InterpreterBuilder.binary_op
_stock_patch_tensor = interpreter._patch_lang_tensor


@cache
def correct_interpreter() -> None:
    """For this process."""
    interpreter._convert_float = _convert
    interpreter.InterpreterBuilder.create_dot = _dot
    interpreter.InterpreterBuilder.binary_op = _binary
    interpreter._patch_lang_tensor = _patch_tensor


def _convert(data: Any, source: Any, target: Any, rounding_mode: Any) -> Any:
    if (source, target) == (tl.bfloat16, tl.float32):
        return _widen(data).view(np.uint32)
    if (source, target) == (tl.float32, tl.bfloat16):
        return _narrow(data)
    return _stock_convert(data, source, target, rounding_mode)


def _dot(self: Any, a: Any, b: Any, d: Any, *options: Any) -> Any:
    def wide(x: Any) -> Any:
        return interpreter.TensorHandle(_widen(x.data), tl.float32) if x.dtype.scalar == tl.bfloat16 else x

    return _stock_dot(self, wide(a), wide(b), d, *options)


def _binary(self: Any, left: Any, right: Any, operation: Any) -> Any:
    found = _stock_binary(self, left, right, operation)
    return interpreter.TensorHandle(found.data, tl.int1) if found.data.dtype == np.bool_ else found


def _patch_tensor(tensor: Any, scope: Any) -> None:
    _stock_patch_tensor(tensor, scope)
    scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.squeeze()))


def _widen(bits: Any) -> Any:
    """bfloat16 bits to float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _narrow(values: Any) -> Any:
    """float32 to bfloat16 bits: nearest, ties to even; NaN stays NaN."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return np.where(np.isnan(values), bits >> 16 | 0x40, rounded).astype(np.uint16)

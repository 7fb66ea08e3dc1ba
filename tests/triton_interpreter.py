"""Triton's interpreter for the tests: right in bfloat16, and four times faster.

The interpreter keeps bfloat16 as uint16 and multiplies those integers in `tl.dot`; its conversion from float32 cuts
bits off, where GPUs round to the nearest even, and spoils subnormal numbers. `tests/test_triton_interpreter.py` asks
the interpreter without this correction whether that is still so.

Every call of a device function looks through the whole of `triton.language` for names to replace, which the running
kernel has replaced already: most of the time of a kernel goes there. Once for each module of functions is enough.
"""

import numpy as np
import triton.language as tl
from triton.runtime import interpreter

_stock_convert = interpreter._convert_float
_stock_dot = interpreter.InterpreterBuilder.create_dot


def _widen(bits: np.ndarray) -> np.ndarray:
    """bfloat16 bits to float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _narrow(values: np.ndarray) -> np.ndarray:
    """float32 to bfloat16 bits: nearest, ties to even; NaN stays NaN."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return np.where(np.isnan(values), bits >> 16 | 0x40, rounded).astype(np.uint16)


def _convert(data, source, target, rounding_mode):
    if (source, target) == (tl.bfloat16, tl.float32):
        return _widen(data).view(np.uint32)
    if (source, target) == (tl.float32, tl.bfloat16):
        return _narrow(data)
    return _stock_convert(data, source, target, rounding_mode)


def _dot(self, a, b, d, *options):
    def wide(x):
        return interpreter.TensorHandle(_widen(x.data), tl.float32) if x.dtype.scalar == tl.bfloat16 else x

    return _stock_dot(self, wide(a), wide(b), d, *options)


_modules_seen: set[int] = set()


def _call_device_function(self, *args, **kwargs):
    module = id(self.fn.__globals__)
    if module not in _modules_seen:
        interpreter._patch_lang(self.fn)
        _modules_seen.add(module)
    return self.rewrite()(*args, **kwargs)


def correct_bfloat16() -> None:
    """For this process."""
    interpreter._convert_float = _convert
    interpreter.InterpreterBuilder.create_dot = _dot


def call_device_functions_directly() -> None:
    """For this process."""
    interpreter.InterpretedFunction.__call__ = _call_device_function

"""Triton's interpreter four times faster, for the tests.

Every call of a device function looks through the whole of `triton.language` for names to replace, which the running
kernel has replaced already: most of the time of a kernel goes there. Once for each module of functions is enough.
"""

from __future__ import annotations

from typing import Any

from triton.runtime import interpreter

_modules_seen: set[int] = set()


def _call_device_function(self: Any, *args: Any, **kwargs: Any) -> Any:
    module = id(self.fn.__globals__)
    if module not in _modules_seen:
        interpreter._patch_lang(self.fn)
        _modules_seen.add(module)
    return self.rewrite()(*args, **kwargs)


def call_device_functions_directly() -> None:
    """For this process."""
    interpreter.InterpretedFunction.__call__ = _call_device_function

"""Which Python objects are numbers."""

from __future__ import annotations

from numbers import Real


def plain_float(value: object) -> object:
    """NumPy's and other real numbers as a float; whatever else as it is, for a check that names it."""
    if isinstance(value, (bool, int, float)) or not isinstance(value, Real):
        return value
    return float(value)

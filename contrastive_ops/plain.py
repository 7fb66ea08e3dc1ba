"""Which Python objects are numbers."""

from __future__ import annotations

import operator
from numbers import Integral, Real
from typing import Any


def plain_float(value: object) -> object:
    """NumPy's and other real numbers as a float; whatever else as it is, for a check that names it."""
    if isinstance(value, (bool, int, float)) or not isinstance(value, Real):
        return value
    return float(value)


def plain_int(value: Any) -> Any:
    """NumPy's and other integers as an int; whatever else as it is, for a check that names it."""
    if isinstance(value, (bool, int)) or not isinstance(value, Integral):
        return value
    return operator.index(value)

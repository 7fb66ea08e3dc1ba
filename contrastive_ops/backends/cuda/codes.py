"""Which GPUs run code that nvcc has made."""

from __future__ import annotations

import re

HOPPER = "sm_90a"  # the only code with TMA and wgmma


def runs_on(code: str, capability: tuple[int, int]) -> bool:
    """Machine code (sm_*) runs on GPUs of its generation that are not older, PTX (compute_*) on all that are not older.
    With the letter a either runs on that GPU alone, with f in its generation alone."""
    found = re.fullmatch(r"(sm|compute)_(\d+)(\d)([a-z]?)", code)
    assert found is not None, code
    kind, major, minor, letter = found.groups()
    made_for = (int(major), int(minor))
    if letter == "a":
        return capability == made_for
    if kind == "sm" or letter:
        return capability[0] == made_for[0] and capability >= made_for
    return capability >= made_for

"""What csrc/types.h and Python both number is numbered alike: enumerations by name and value, and largest counts.

Nothing is listed here: an enumeration or a count that joins the header is looked for in the package by its name.
"""

import re
import sys
from enum import IntEnum
from pathlib import Path

import pytest
import torch

import contrastive_ops
from contrastive_ops.backends.base import DTYPE_CODES

HEADER = (Path(__file__).parent.parent / "csrc" / "types.h").read_text(encoding="utf-8")


def upper_case(name):
    """`kOffDiagonal` in Python: `OFF_DIAGONAL`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.removeprefix("k")).upper()


def enumerations_of(text):
    """{name: {member: value}} with the members as Python writes them; the compiler's count where no value is given."""
    found = {}
    for name, body in re.findall(r"\benum\s+class\s+(\w+)[^{;]*\{([^}]*)\}", text):
        value, found[name] = -1, {}
        for member in filter(None, (part.strip() for part in re.sub(r"//.*", "", body).split(","))):
            key, _, given = (part.strip() for part in member.partition("="))
            value = int(given, 0) if given else value + 1
            found[name][upper_case(key)] = value
    return found


def counts_of(text):
    return {upper_case(name): int(value) for name, value in re.findall(r"constexpr int (kMax\w+) = (\d+);", text)}


def in_the_package(name):
    """Whatever modules of the library call so, without those that stand beside it."""
    return [
        getattr(module, name)
        for path, module in sys.modules.items()
        if path.partition(".")[0] == contrastive_ops.__name__ and hasattr(module, name) and ".testing" not in path
    ]


ENUMERATIONS, COUNTS = enumerations_of(HEADER), counts_of(HEADER)


@pytest.mark.parametrize("name", sorted(ENUMERATIONS.keys() - {"DType"}))
def test_enumerations(name):
    (found,) = set(in_the_package(name))
    assert issubclass(found, IntEnum)
    assert {member.name: member.value for member in found} == ENUMERATIONS[name]


def test_dtypes():
    names = {str(dtype).removeprefix("torch.").upper(): code for dtype, code in DTYPE_CODES.items()}
    written = {re.sub(r"_", "", name): value for name, value in ENUMERATIONS["DType"].items()}
    assert names == written and set(DTYPE_CODES) == {torch.float32, torch.float64, torch.bfloat16, torch.float16}


@pytest.mark.parametrize("name", sorted(COUNTS))
def test_counts(name):
    found = in_the_package(name)
    assert found and set(found) == {COUNTS[name]}


def test_the_header_is_read():
    assert {"DType", "ScoreKind", "ClauseKind"} <= ENUMERATIONS.keys() and {"MAX_BANKS", "MAX_CLAUSES"} <= COUNTS.keys()
    text = "enum class SomeKind : int {\n  kFirst,  // a, b\n  kTheOther = 4, kLast };\nconstexpr int kMaxThings = 12;"
    assert enumerations_of(text) == {"SomeKind": {"FIRST": 0, "THE_OTHER": 4, "LAST": 5}}
    assert counts_of(text) == {"MAX_THINGS": 12}

"""Right or wrong: errors relative to float64 beside their bounds, as keys of a row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from bench.gpu.journal import OK, WRONG
from contrastive_ops.testing import norm_error, tolerance_for

VALUE = "loss"  # all other results are gradients


def compare(
    found: Mapping[str, Tensor | None],
    truth: Mapping[str, Tensor],
    backend: str,
    allowed: Mapping[str, float],
) -> dict[str, Any]:
    """`allowed`: the error of the dense formula, to which the tolerance of the dtype and the backend is added."""
    row: dict[str, Any] = {"verdict": OK}
    for name, true in truth.items():
        value = found[name]
        if value is None:
            row |= {"verdict": WRONG, "why": f"no gradient of {name}"}
            continue
        tolerance = tolerance_for(value.dtype, backend)
        bound = allowed[name] + (tolerance.value if name == VALUE else tolerance.grad)
        error = norm_error(value, true)
        row |= {f"error_{name}": error, f"bound_{name}": bound}
        if not error <= bound:  # nor is NaN right
            row["verdict"] = WRONG
    return row


def same_bits(first: Tensor, second: Tensor) -> bool:
    return torch.equal(first.contiguous().flatten().view(torch.uint8), second.contiguous().flatten().view(torch.uint8))

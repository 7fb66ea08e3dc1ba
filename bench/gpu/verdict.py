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
    sizes: Mapping[str, Tensor] | None = None,
) -> dict[str, Any]:
    """`allowed`: the error of the dense formula, to which the tolerance of the dtype and the backend is added; `sizes`:
    of the terms of a result that cancel, as `size` of `norm_error`."""
    row: dict[str, Any] = {"verdict": OK}
    for name, true in truth.items():
        value = found[name]
        if value is None:
            row |= {"verdict": WRONG, "why": f"no gradient of {name}"}
            continue
        tolerance = tolerance_for(value.dtype, backend)
        bound = allowed[name] + (tolerance.value if name == VALUE else tolerance.grad)
        error = norm_error(value, true, (sizes or {}).get(name))
        row |= {f"error_{name}": error, f"bound_{name}": bound}
        if not error <= bound:  # nor is NaN right
            row["verdict"] = WRONG
    return row


def size_of_scale_gradient(rows: Tensor, d_rows: Tensor, scale: Tensor) -> Tensor:
    """Of the terms that a scale's (or a temperature's) gradient sums up: it is <rows, d_rows> / scale but for its sign,
    and no algorithm keeps digits that its terms do not have."""
    terms = rows.double().norm(dim=-1) * d_rows.double().norm(dim=-1)
    size: Tensor = terms.sum() / scale.double().abs()
    return size


def same_bits(first: Tensor, second: Tensor) -> bool:
    return torch.equal(first.contiguous().flatten().view(torch.uint8), second.contiguous().flatten().view(torch.uint8))

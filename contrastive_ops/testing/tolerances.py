"""What results may be off by, beyond the error of the dense formula."""

from __future__ import annotations

from typing import NamedTuple

import torch

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


class Tolerance(NamedTuple):
    """What may be added to the error of the dense formula, relative to the norm of the truth."""

    value: float
    grad: float


TOLERANCES = {
    # statistics come back in float32, accumulated in float32: 8 units in the last place
    torch.float32: Tolerance(1e-6, 1e-6),
    # the truth itself is float64, so both sides carry its rounding over sums of up to 900 terms
    torch.float64: Tolerance(1e-13, 1e-13),
    # inputs are exact and statistics float32; only gradients are rounded to the input dtype, once: half a unit
    torch.bfloat16: Tolerance(1e-6, 2.0**-8),
    torch.float16: Tolerance(1e-6, 2.0**-11),
}
# backends whose gradient products take dS in the dtype of the embeddings, as tensor cores do: half a unit more
ROUNDS_SCORE_GRADIENT = ("triton", "cuda")


def tolerance_for(dtype: torch.dtype, backend: str) -> Tolerance:
    """What the results of this backend may be off by, beyond the error of the dense formula."""
    value, grad = TOLERANCES[dtype]
    if backend in ROUNDS_SCORE_GRADIENT and dtype in (torch.bfloat16, torch.float16):
        grad += torch.finfo(dtype).eps / 2
    return Tolerance(value, grad)

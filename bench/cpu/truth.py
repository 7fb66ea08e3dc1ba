"""The refusal to time anything that does not agree with the truth."""

from __future__ import annotations

import math

from bench.clip_truth import Truth
from bench.cpu.contestants import Inputs, LossFunction
from contrastive_ops.testing import norm_error

TOLERANCE = 1e-5  # of value and gradients, norm-wise; dense float32 is at about 1e-6 here


class WrongResult(RuntimeError):
    """A contestant does not compute the loss; its time means nothing."""


def refuse_wrong(name: str, loss: LossFunction, inputs: Inputs, truth: Truth) -> None:
    """Raise `WrongResult` unless value and gradients agree with the truth; leaves no gradients behind."""
    inputs.restart()
    value = loss(inputs.x, inputs.y, inputs.scale)
    value.backward()
    found = (value, inputs.x.grad, inputs.y.grad, inputs.scale.grad)
    for part, got, expected in zip(Truth._fields, found, truth, strict=True):
        error = math.inf if got is None else norm_error(got, expected)
        if not error <= TOLERANCE:
            raise WrongResult(f"{name}: {part} is off by {error:.1e} (relative), expected at most {TOLERANCE:.0e}")
    inputs.restart()

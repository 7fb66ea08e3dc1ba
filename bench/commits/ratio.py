"""What pairs of times say: the median of their ratios, and how far it is known."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

CONFIDENCE = 0.95
LEAST_PAIRS = 6  # fewer say nothing with that confidence
FALL = 1.02  # what a change of no meaning (the place of a loop in memory) can cost


class Ratio(NamedTuple):
    """New over old, with the interval that holds the true median with `CONFIDENCE`."""

    median: float
    low: float
    high: float
    old_seconds: float  # the median

    @property
    def is_fall(self) -> bool:
        """Slower beyond doubt."""
        return self.low > FALL


def ratio_of(samples: Sequence[tuple[float, float]]) -> Ratio:
    """From pairs of (new, old) seconds, at least `LEAST_PAIRS`. No distribution is assumed: each ratio lies above the
    true median with probability 1/2, so the interval is that of the sign test, between two of the sorted ratios."""
    ratios = sorted(new / old for new, old in samples)
    place = _outermost(len(ratios))
    return Ratio(
        median=statistics.median(ratios),
        low=ratios[place],
        high=ratios[-1 - place],
        old_seconds=statistics.median(old for _, old in samples),
    )


def _outermost(pairs: int) -> int:
    """The largest k for which at most k of the pairs lie below the median with probability <= (1 - CONFIDENCE) / 2."""
    if pairs < LEAST_PAIRS:
        raise ValueError(f"expected at least {LEAST_PAIRS} pairs, got {pairs}")
    k, tail = 0, 1
    while (tail + math.comb(pairs, k + 1)) / 2**pairs <= (1 - CONFIDENCE) / 2:
        k += 1
        tail += math.comb(pairs, k)
    return k

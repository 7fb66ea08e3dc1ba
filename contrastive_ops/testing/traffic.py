"""Bytes that a step moves, by strategy: a model, which a test holds to what is handed to the collectives and
`python -m bench.comm` to what goes over the loopback interface.

It counts what one rank sends in forward and backward of the symmetric CLIP loss, both towers trained, n pairs of D
numbers on each of W ranks. A collective costs what its ring algorithm costs.
"""

from __future__ import annotations

from typing import NamedTuple

STRATEGIES = ("gather", "ring", "shard", "grouped")
STATISTIC = 4  # bytes of a statistic, and of a number of a travelling gradient
OPTIONS = 4 * 8  # the header by which ranks agree
MEAN = 2 * 8  # sum and count of the losses


class Setting(NamedTuple):
    """One step of one strategy."""

    world: int
    lines: int  # pairs of a rank
    embedding: int
    group: int = 8  # ranks of a group, for "grouped"
    feature_bytes: int = 4  # of a number on the wire
    frozen: bool = False  # the travelling tower

    def meeting(self, strategy: str) -> int:
        """Ranks whose lines meet."""
        return min(self.group, self.world) if strategy == "grouped" else self.world


class Sent(NamedTuple):
    """Bytes that one rank sends in a step."""

    features: float
    gradients: float
    lines: float  # what is O(1) of a line: lse, sums and their upstream gradients
    agreement: float

    @property
    def total(self) -> float:
        return sum(self)


def sent_bytes(strategy: str, setting: Setting, *, reduce_scatter: float = 1.0) -> Sent:
    """`reduce_scatter`: how many times the bytes of a ring reduce-scatter the backend sends for one."""
    world, lines, embedding, _, feature_bytes, frozen = setting
    meeting = setting.meeting(strategy)
    others = meeting - 1
    features = lines * embedding * feature_bytes
    gradients = 0 if frozen else lines * embedding * STATISTIC
    line = lines * STATISTIC
    agreement = (world - 1) * OPTIONS + 2 * (world - 1) / world * MEAN
    if strategy == "ring":
        # forward and backward; what comes home takes one step more. Home: lse and sum; along: lse and two gradients
        return Sent(2 * others * features, meeting * gradients, (2 * meeting + 3 * others) * line, agreement)
    # home: lse all-to-all, sum by reduce-scatter; along: one all-gather
    return Sent(others * features, reduce_scatter * others * gradients, (4 + reduce_scatter) * others * line, agreement)


def held_bytes(strategy: str, setting: Setting) -> int:
    """Of a rank at its peak: other ranks' features and gradients for them, without inputs, their own gradients and what
    the backend needs for a block of scores of this many columns."""
    features = setting.lines * setting.embedding * setting.feature_bytes
    gradients = 0 if setting.frozen else setting.lines * setting.embedding * STATISTIC
    if strategy == "ring":
        return 2 * features + 4 * gradients  # at work, arriving; share, arrived, sum, leaving
    meeting = setting.meeting(strategy)
    return meeting * (features + gradients) + gradients

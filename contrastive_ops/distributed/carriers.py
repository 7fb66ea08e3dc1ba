"""How the lines of one side get to every rank, and how what is accumulated for them there gets home.

One side of the scores (rows or columns) stays on its ranks; the other visits all of them, either all ranks' lines at
once or in turns around a ring. Forward and backward of the statistics are written over visits, once for both.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Protocol

import torch
from torch import Tensor

from contrastive_ops.distributed.collectives import (
    Passing,
    Ranks,
    Tensors,
    all_gather_lines,
    exchange_lines,
    pass_on,
    reduce_scatter_lines,
)

Combine = Callable[[Tensor, Tensor], Tensor]


class Homeward(Protocol):
    """Shares of the visiting lines' results on their way to the rank that owns the lines."""

    def add(self, shares: Tensors) -> None:
        """This rank's shares for the lines of the next visit, each tensor `[n, ...]`."""

    def arrived(self) -> Tensors:
        """This rank's own lines' results, combined over all ranks in a fixed order."""


class Carrier(Protocol):
    """Moves lines between the ranks of one group."""

    @property
    def starts(self) -> Sequence[int]:
        """Of each visit: the index of its first line among those of all ranks."""

    @property
    def keeps_visits(self) -> bool:
        """Whether the single visit of forward is kept for backward."""

    def visits(self, lines: Tensors) -> Iterator[Tensors]:
        """The lines `[n, ...]` of every rank, visit by visit."""

    def homeward(self, combine: Sequence[Combine]) -> Homeward:
        """A way home for results that are combined so, tensor by tensor."""


def first_lines(counts: Sequence[int]) -> list[int]:
    """Index of every rank's first line among those of all ranks."""
    return [0, *accumulate(counts)][:-1]


class AtOnce:
    """One visit of all ranks' lines: all-gather, and reduce-scatter of what comes back. O(all lines) memory."""

    keeps_visits = True

    def __init__(self, counts: Sequence[int], ranks: Ranks) -> None:
        self.counts, self.ranks = counts, ranks
        self.starts = [0]

    def visits(self, lines: Tensors) -> Iterator[Tensors]:
        yield tuple(all_gather_lines(tensor, self.counts, self.ranks) for tensor in lines)

    def homeward(self, combine: Sequence[Combine]) -> Homeward:
        return _Scattered(self, combine)


class _Scattered:
    def __init__(self, carrier: AtOnce, combine: Sequence[Combine]) -> None:
        self.carrier, self.combine = carrier, combine
        self.own: Tensors = ()

    def add(self, shares: Tensors) -> None:
        self.own = tuple(self._home(*pair) for pair in zip(shares, self.combine, strict=True))

    def arrived(self) -> Tensors:
        return self.own

    def _home(self, share: Tensor, combine: Combine) -> Tensor:
        counts, ranks = self.carrier.counts, self.carrier.ranks
        if combine is torch.add:
            return reduce_scatter_lines(share, counts, ranks)
        return functools.reduce(combine, exchange_lines(share, counts, ranks))


class InTurns:
    """W visits of one rank's lines each, passed on around a ring: O(own lines) memory, whatever W.

    The next lines travel while the present ones are worked on. Results travel one step behind their lines: a rank adds
    its share to what it received, and after W steps they are at home.
    """

    keeps_visits = False

    def __init__(self, counts: Sequence[int], ranks: Ranks) -> None:
        self.ranks = ranks
        owners = [(ranks.rank - turn) % ranks.size for turn in range(ranks.size + 1)]
        starts = first_lines(counts)
        self.starts = [starts[owner] for owner in owners[:-1]]
        self.heights = [counts[owner] for owner in owners]

    def visits(self, lines: Tensors) -> Iterator[Tensors]:
        for turn in range(self.ranks.size):
            is_last = turn + 1 == self.ranks.size
            passing = None if is_last else self.pass_on(lines, turn + 1)
            yield lines
            if passing is not None:
                lines = passing.wait()

    def homeward(self, combine: Sequence[Combine]) -> Homeward:
        return _Behind(self, combine)

    def pass_on(self, lines: Tensors, turn: int) -> Passing:
        """Send these and receive what the visitors of that turn have in their place."""
        incoming = tuple(tensor.new_empty((self.heights[turn], *tensor.shape[1:])) for tensor in lines)
        return pass_on(lines, incoming, self.ranks)


class _Behind:
    def __init__(self, carrier: InTurns, combine: Sequence[Combine]) -> None:
        self.carrier, self.combine = carrier, combine
        self.turn = 0
        self.passing: Passing | None = None

    def add(self, shares: Tensors) -> None:
        if self.passing is not None:
            so_far = self.passing.wait()
            shares = tuple(how(*pair) for how, *pair in zip(self.combine, so_far, shares, strict=True))
        self.turn += 1
        alone = self.carrier.ranks.size == 1
        self.passing = Passing([], shares, shares) if alone else self.carrier.pass_on(shares, self.turn)

    def arrived(self) -> Tensors:
        assert self.passing is not None
        return self.passing.wait()

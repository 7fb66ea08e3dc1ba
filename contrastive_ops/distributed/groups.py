"""Rank groups inside a process group: who aggregates with whom."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from weakref import WeakKeyDictionary

import torch.distributed as dist

from contrastive_ops.distributed.collectives import Ranks
from contrastive_ops.plain import plain_int

# a communicator is made once and serves every step; it lives as long as the group that it is a part of
_made: WeakKeyDictionary[dist.ProcessGroup, dict[tuple[int, ...], dist.ProcessGroup]] = WeakKeyDictionary()


def rank_groups(
    size: int, group_size: int | None, groups: Sequence[Sequence[int]] | None
) -> tuple[tuple[int, ...], ...]:
    """A partition of `range(size)`: contiguous groups of `group_size` ranks, or the given ones.

    Launchers number the ranks of a node contiguously, so `group_size` = nodes x processes per node is node-aligned.
    """
    if (group_size is None) == (groups is None):
        raise ValueError(
            f'strategy "grouped" needs either group_size or groups, got group_size={group_size}, groups={groups}'
        )
    if groups is None:
        assert group_size is not None
        group_size = plain_int(group_size)
        if isinstance(group_size, bool) or not isinstance(group_size, int):
            raise TypeError(f"group_size must be an int, got {type(group_size).__name__}")
        if group_size < 1 or size % group_size:
            raise ValueError(
                f"group_size must divide the {size} ranks, got {group_size}: pass groups=[[0, 1, ...], ...] for groups "
                "of different sizes"
            )
        return tuple(tuple(range(start, start + group_size)) for start in range(0, size, group_size))
    partition = tuple(tuple(sorted(members)) for members in groups)  # as process groups number them
    if sorted(rank for members in partition for rank in members) != list(range(size)) or () in partition:
        raise ValueError(f"groups must hold every rank of 0..{size - 1} exactly once, got {[list(g) for g in groups]}")
    return partition


def subgroup(ranks: Ranks, members: tuple[int, ...]) -> Ranks:
    """The process group of these ranks of a group, of which this process is one. All members call it together."""
    if members == tuple(range(ranks.size)):
        return ranks
    known = _made.setdefault(ranks.group, {})
    if members not in known:
        made = dist.new_group(
            [dist.get_global_rank(ranks.group, member) for member in members],
            timeout=_timeout(ranks),
            backend=dist.get_backend(ranks.group),
            use_local_synchronization=True,  # others need not take part
        )
        assert isinstance(made, dist.ProcessGroup)
        known[members] = made
    return Ranks.of(known[members])


def _timeout(ranks: Ranks) -> timedelta:
    """Of the group itself: `new_group` would take the default of the backend. PyTorch has no public way to ask."""
    timeout: timedelta = ranks.group._get_backend(ranks.host_device).options._timeout
    return timeout

"""How long a launch keeps the multiprocessors: its programs are given out in order, each to the next that is free."""

from __future__ import annotations

from collections.abc import Iterable


def finish_time(multiprocessors: int, programs: Iterable[tuple[int, int]]) -> int:
    """When the last program ends. `programs`: how many of one length follow one another, and that length. A
    multiprocessor takes one after another: two that share it take twice as long."""
    free = {0: multiprocessors}  # time -> how many become free then
    for count, length in programs:
        if max(free) - min(free) <= length:  # each takes one before any takes a second
            rounds, count = divmod(count, multiprocessors)
            free = {time + rounds * length: idle for time, idle in free.items()}
        while count:
            start = min(free)
            idle = free.pop(start)
            taken = min(idle, count)
            if taken < idle:
                free[start] = idle - taken
            end = start + length
            free[end] = free.get(end, 0) + taken
            count -= taken
    return max(free)

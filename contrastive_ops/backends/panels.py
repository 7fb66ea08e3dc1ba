"""Panels of rows that are finished at once: gradients in the forward pass, three products at any size.

For reductions of rows whose upstream gradients follow from their own results: the scores of a panel stay in the
workspace, its results are known, and its gradients need no score a second time.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from contrastive_ops.backends.base import Backend, Outer, Wanted
from contrastive_ops.leaves import cut
from contrastive_ops.problem import Gradients, Problem

PANEL_ROWS = 384  # panels are multiples of this, so that tiles are whole


def total_and_gradients(backend: Backend, problem: Problem, outer: Outer, wanted: Wanted) -> tuple[Tensor, Gradients]:
    """`Backend.total_and_gradients` by forward and backward of one panel after another."""
    total = problem.scale.new_zeros(())
    gradients: dict[str, Tensor] = {}
    leaves = [(leaf, tensor) for leaf, tensor in problem.leaves() if leaf.gradient and getattr(wanted, leaf.gradient)]
    for rows in even_slices(problem.sizes[1], _height(problem, backend), PANEL_ROWS):
        is_whole = rows == slice(0, problem.sizes[1])
        if is_whole:
            return finish_at_once(backend, problem, outer, wanted)
        part, found = finish_at_once(backend, problem.select(rows), outer, wanted)
        total += part
        for leaf, tensor in leaves:
            assert leaf.gradient is not None
            if leaf.gradient not in gradients:
                gradients[leaf.gradient] = torch.zeros_like(tensor, dtype=problem.statistics_dtype)
            # those of the rows in their place, the others add up
            target = cut(leaf, gradients[leaf.gradient], rows, None, None)
            target += found.of(leaf)
    return total, Gradients(**gradients)


def even_slices(length: int, most: int, unit: int) -> Iterator[slice]:
    """Slices of nearly equal size, a multiple of `unit`, none longer than `most`, which is one; of nothing, one."""
    count = max(1, -(-length // most))
    size = -(-length // (count * unit)) * unit
    for start in range(0, max(length, 1), max(size, 1)):
        yield slice(start, min(start + size, length))


def _height(problem: Problem, backend: Backend) -> int:
    """Rows whose scores fit the workspace; all where the budget does not hold a useful panel, or where the backend
    computes scores again because that costs it less."""
    batch, m, n, _ = problem.sizes
    row_bytes = max(1, batch * n * problem.statistics_dtype.itemsize)
    height = problem.workspace_bytes // row_bytes // PANEL_ROWS * PANEL_ROWS
    if height == 0 or backend.state_bytes(problem.select(slice(0, min(height, m)))) == 0:
        return max(m, 1)
    return height


def finish_at_once(backend: Backend, problem: Problem, outer: Outer, wanted: Wanted) -> tuple[Tensor, Gradients]:
    """All rows are one panel, whose state is gone before the next one has its own."""
    results, state = backend.forward(problem)
    total, upstream = outer(results)
    kept = total.new_empty((0,), dtype=torch.uint8) if state is None else state
    return total, backend.backward(problem, results, upstream, kept, wanted)

"""Panels of rows that are finished at once: gradients in the forward pass, three products at any size.

For reductions of rows whose upstream gradients follow from their own results: the scores of a panel stay in the
workspace, its results are known, and its gradients need no score a second time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

import torch
from torch import Tensor

from contrastive_ops.backends import Backend, Wanted, select_backend
from contrastive_ops.check import without_autocast
from contrastive_ops.leaves import Leaf, cut
from contrastive_ops.problem import Gradients, Problem, Results

PANEL_ROWS = 384  # panels are multiples of this, so that tiles are whole

# what the results of some rows add to a total, and the gradients of that in them
Outer = Callable[[Results], tuple[Tensor, Results]]


def total_and_gradients(
    problem: Problem, backend_name: str | None, outer: Outer, wanted: Collection[Leaf]
) -> tuple[Tensor, dict[Leaf, Tensor]]:
    """The total over all rows, and its gradients in the leaves that are wanted, in the statistics dtype: they wait
    there for their upstream factor, as a loss scale would come too late for float16."""
    backend = select_backend(problem, backend_name)
    asked = Wanted.of(wanted, problem.statistics_dtype)
    total = problem.scale.new_zeros(())
    gradients: dict[Leaf, Tensor] = {}
    for rows, panel in _panels(problem, backend):
        part, found = _part(panel, backend, outer, asked if wanted else None)
        total += part
        if found is None:
            continue
        if rows == slice(0, problem.sizes[1]):
            return total, {leaf: found.of(leaf) for leaf in wanted}
        for leaf, tensor in problem.leaves():
            if leaf in wanted:
                if leaf not in gradients:
                    gradients[leaf] = torch.zeros_like(tensor, dtype=problem.statistics_dtype)
                # those of the rows in their place, the others add up
                target = cut(leaf, gradients[leaf], rows, None, None)
                target += found.of(leaf)
    return total, gradients


def _part(panel: Problem, backend: Backend, outer: Outer, asked: Wanted | None) -> tuple[Tensor, Gradients | None]:
    """Of one panel, whose state is gone before the next one has its own."""
    with without_autocast(panel.rows.vectors):
        results, state = backend.forward(panel)
        part, upstream = outer(results)
        if asked is None:
            return part, None
        kept = part.new_empty((0,), dtype=torch.uint8) if state is None else state
        return part, backend.backward(panel, results, upstream, kept, asked)


def _panels(problem: Problem, backend: Backend) -> Iterator[tuple[slice, Problem]]:
    """Row panels whose scores fit the workspace; one panel where the budget does not hold a useful one, or where the
    backend computes scores again because that costs it less."""
    batch, m, n, _ = problem.sizes
    row_bytes = max(1, batch * n * problem.statistics_dtype.itemsize)
    height = problem.workspace_bytes // row_bytes // PANEL_ROWS * PANEL_ROWS
    if height == 0 or backend.state_bytes(problem.select(slice(0, min(height, m)))) == 0:
        height = max(m, 1)
    for start in range(0, max(m, 1), height):
        rows = slice(start, min(start + height, m))
        yield rows, problem.select(rows)

"""Panels of rows that are finished at once: gradients in the forward pass, three products at any size.

For reductions of rows whose upstream gradients follow from their own results: the scores of a panel stay in the
workspace, its results are known, and its gradients need no score a second time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from contrastive_ops.backends import Backend, Wanted, select_backend
from contrastive_ops.check import without_autocast
from contrastive_ops.leaves import cut
from contrastive_ops.problem import Problem, Results

PANEL_ROWS = 384  # panels are multiples of this, so that tiles are whole

# what the results of some rows add to a total, and the gradients of that in them
Outer = Callable[[Results], tuple[Tensor, Results]]


def total_and_gradients(
    problem: Problem, backend_name: str | None, outer: Outer, wanted: Sequence[bool]
) -> tuple[Tensor, list[Tensor | None]]:
    """The total over all rows, and its gradients in the leaves that are wanted, in the statistics dtype: they wait
    there for their upstream factor, as a loss scale would come too late for float16."""
    backend = select_backend(problem, backend_name)
    leaves = [leaf for leaf, _ in problem.leaves]
    asked = {leaf.gradient: True for leaf, want in zip(leaves, wanted, strict=True) if want}
    total = problem.scale.new_zeros(())
    gradients: list[Tensor | None] = [None] * len(leaves)
    for rows, panel in _panels(problem, backend):
        with without_autocast(problem.rows.vectors):
            results, state = backend.forward(panel)
            part, upstream = outer(results)
            total += part
            if not asked:
                continue
            kept = part.new_empty((0,), dtype=torch.uint8) if state is None else state
            asked_here = Wanted(**asked, dtype=problem.statistics_dtype)  # type: ignore[arg-type]
            found = backend.backward(panel, results, upstream, kept, asked_here)
        is_whole = rows == slice(0, problem.sizes[1])
        for i, (leaf, tensor) in enumerate(problem.leaves):
            if not wanted[i]:
                continue
            gradient = getattr(found, leaf.gradient)  # type: ignore[arg-type]
            if is_whole:
                gradients[i] = gradient
                continue
            # those of the rows in their place, the others add up
            so_far = gradients[i]
            if so_far is None:
                so_far = gradients[i] = torch.zeros_like(tensor, dtype=problem.statistics_dtype)
            target = cut(leaf, so_far, rows, None, None)
            target += gradient
    return total, gradients


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

"""A total of the rows' results and its gradients, both formed in the forward pass."""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor

from contrastive_ops.backends import Outer, Wanted, select_backend
from contrastive_ops.check import without_autocast
from contrastive_ops.leaves import Leaf
from contrastive_ops.problem import Gradients, Problem


def total_and_gradients(
    problem: Problem, backend_name: str | None, outer: Outer, wanted: Collection[Leaf]
) -> tuple[Tensor, Gradients]:
    """The total over all rows, and its gradients in the leaves that are wanted, in the statistics dtype: they wait
    there for their upstream factor, as a loss scale would come too late for float16."""
    backend = select_backend(problem, backend_name)
    with without_autocast(problem.rows.vectors):
        if not wanted:
            return outer(backend.forward(problem)[0])[0], Gradients()
        return backend.total_and_gradients(problem, outer, Wanted.of(wanted, problem.statistics_dtype))

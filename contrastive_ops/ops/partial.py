"""A block of a larger problem: its share of the results, and its gradients once the shares are merged."""

from __future__ import annotations

from torch import Tensor

from contrastive_ops.backends import Wanted, select_backend
from contrastive_ops.check import without_autocast
from contrastive_ops.problem import Gradients, Problem, Results


def partial_results(problem: Problem, backend: str | None) -> tuple[Results, Tensor | None]:
    """Reductions of the pairs of this block alone, and what the backend keeps for `partial_gradients`.

    Shares of a line merge: `Reduction.merge`. Not differentiable.
    """
    with without_autocast(problem.rows.vectors):
        return select_backend(problem, backend).forward(problem)


def partial_gradients(
    problem: Problem,
    backend: str | None,
    merged: Results,
    upstream: Results,
    state: Tensor | None,
    wanted: Wanted,
) -> Gradients:
    """What the pairs of this block add to the gradients, for results merged over all blocks.

    A slope is one of its pair and of its lines' results, so merged results make the block's own gradient exact. A
    state of None (nothing was kept) costs another score pass where the backend needs one.
    """
    chosen = select_backend(problem, backend)
    with without_autocast(problem.rows.vectors):
        if state is None and chosen.state_bytes(problem):
            _, state = chosen.forward(problem)
        if state is None:
            state = problem.scale.new_empty((0,)).byte()
        return chosen.backward(problem, merged, upstream, state, wanted)

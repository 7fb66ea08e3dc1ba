"""A block of a larger problem: its share of the statistics, and its gradients once the shares are merged."""

from __future__ import annotations

from torch import Tensor

from contrastive_ops.backends import Wanted, select_backend
from contrastive_ops.problem import Gradients, Problem, Statistics, without_autocast


def partial_statistics(problem: Problem, backend: str | None) -> tuple[Statistics, Tensor | None]:
    """Statistics over the pairs of this block alone, and what the backend keeps for `partial_gradients`.

    Shares of a line merge: `logaddexp` of the log-sum-exps, sum of the sums. Not differentiable.
    """
    with without_autocast(problem.queries):
        return select_backend(problem, backend).forward(problem)


def partial_gradients(
    problem: Problem,
    backend: str | None,
    merged: Statistics,
    upstream: Statistics,
    state: Tensor | None,
    wanted: Wanted,
) -> Gradients:
    """What the pairs of this block add to the gradients, for statistics merged over all blocks.

        dS_ij = cand_ij (g_i exp(s_ij - lse_i) + h_j exp(s_ij - lse_j)) + pos_ij (a_i + b_j)

    holds pair by pair, so the merged lse makes the block's own gradient exact. A state of None (nothing was kept) costs
    another score pass where the backend needs one.
    """
    chosen = select_backend(problem, backend)
    with without_autocast(problem.queries):
        if state is None and chosen.state_bytes(problem):
            _, state = chosen.forward(problem)
        if state is None:
            state = problem.scale.new_empty((0,)).byte()
        return chosen.backward(problem, merged, upstream, state, wanted)

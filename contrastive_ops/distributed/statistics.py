"""Row and column statistics of a score matrix whose rows and columns are spread over ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from contrastive_ops.build_problem import build_problem
from contrastive_ops.distributed.agreement import Distribution, Strategy, Task, Team, agree
from contrastive_ops.distributed.carriers import AtOnce, Carrier, InTurns, first_lines
from contrastive_ops.distributed.passes import Plan, backward_pass, forward_pass
from contrastive_ops.ops.once import differentiable_once
from contrastive_ops.ops.reduce import by_reduction, in_order
from contrastive_ops.ops.rule import Rule
from contrastive_ops.ops.statistics import Statistics, as_statistics, statistics_reductions
from contrastive_ops.ops.transforms import requires_grad
from contrastive_ops.problem import DEFAULT_WORKSPACE_BYTES, Problem, statistics_dtype
from contrastive_ops.reductions import Reduction
from contrastive_ops.relations import Relation


def similarity_statistics(
    queries: Tensor,
    keys: Tensor,
    *,
    scale: float | Tensor = 1.0,
    row_bias: Tensor | None = None,
    col_bias: Tensor | None = None,
    candidates: Relation | None = None,
    positives: Relation | None = None,
    rows: bool = True,
    columns: bool = False,
    strategy: Strategy,
    group: dist.ProcessGroup | None = None,
    group_size: int | None = None,
    groups: Sequence[Sequence[int]] | None = None,
    wire_dtype: torch.dtype | None = None,
    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES,
    backend: str | None = None,
) -> Statistics:
    """`contrastive_ops.similarity_statistics` of the concatenated rows and columns of all ranks; every rank gets those
    of its own rows and columns.

    Backward is the exact transpose over all ranks, without any factor: an outer function that sums over the lines of
    all ranks gets its convention from `mean_over_ranks`.

    Args:
        queries, keys: this rank's `[m, D]` and `[n, D]`; m and n may differ from rank to rank and be 0.
        scale: the same number on every rank.
        row_bias, col_bias: this rank's, `[m]` and `[n]`.
        candidates, positives: diagonals are of the concatenated lines; ids are this rank's, `[m]` and `[n]`, and
            compared across ranks. None as in one process.
        strategy: "gather", "ring", "shard" or "grouped", see `contrastive_ops.distributed`.
        group: the process group; None for all ranks.
        group_size, groups: for "grouped".
        wire_dtype: float16 or bfloat16: the features that travel are rounded to it, for all ranks alike. Gradients
            travel in the statistics dtype.
        workspace_bytes: budget for scores kept from forward for backward.
        backend: see `contrastive_ops.similarity_statistics`.

    Returns:
        `Statistics` of this rank's lines.

    Raises:
        ValueError, TypeError: on every rank, where one of them has bad input or they differ in what must agree.
    """
    distribution = Distribution(strategy, group, group_size, groups, wire_dtype)

    def prepare() -> Task:
        problem = local_problem(
            queries,
            keys,
            statistics_reductions(candidates, positives, rows, columns),
            scale=scale,
            row_bias=row_bias,
            col_bias=col_bias,
            workspace_bytes=workspace_bytes,
        )
        return Task(problem, backend, {})

    return statistics_of_team(*agree("similarity_statistics", distribution, prepare), distribution)


def local_problem(queries: Tensor, keys: Tensor, reductions: Mapping[str, Reduction], **options: Any) -> Problem:
    """This rank's own rows against its own columns, checked as in one process; options as of `build_problem`."""
    problem = build_problem(queries, keys, reductions, **options)
    shape = problem.rows.vectors.shape
    if len(shape) != 2:
        raise ValueError(f"queries and keys must be [rows, D] on every rank, got shape {tuple(shape)}")
    return problem


def statistics_of_team(task: Task, team: Team, distribution: Distribution) -> Statistics:
    """The statistics of this rank's lines over those of all ranks of the team. All of them call it together."""
    problem = task.problem.with_two_sides()
    counts = team.row_counts if team.rows_travel else team.col_counts
    leaves = [tensor for _, tensor in problem.leaves()]
    plan = Plan(
        problem=problem.map(lambda _, tensor: tensor.detach().new_empty((0,))),
        backend=task.backend,
        carrier=carrier_for(distribution, counts, team),
        rows_travel=team.rows_travel,
        starts=(first_lines(team.row_counts)[team.ranks.rank], first_lines(team.col_counts)[team.ranks.rank]),
        wire_dtype=distribution.wire_dtype or problem.dtype,
    )
    needs_grad = torch.is_grad_enabled() and requires_grad(*leaves)
    return as_statistics(by_reduction(problem, _DistributedReductions.apply(plan, needs_grad, *leaves)))


def carrier_for(distribution: Distribution, counts: Sequence[int], team: Team) -> Carrier:
    """Moves lines, of which the ranks of the team have so many each."""
    return InTurns(counts, team.ranks) if distribution.strategy == "ring" else AtOnce(counts, team.ranks)


class _DistributedReductions(Rule):
    @classmethod
    def count_outputs(cls, args: tuple[Any, ...]) -> int:
        return sum(len(reduction.dims) for reduction in args[0].problem.reductions)

    @staticmethod
    def run(plan, needs_grad, *leaves):  # type: ignore[no-untyped-def]
        results, state, visitors = forward_pass(plan, leaves, keep=needs_grad and plan.carrier.keeps_visits)
        return tuple(in_order(results)), (state, *visitors)

    @staticmethod
    def keep(ctx: Any, args, results, kept):  # type: ignore[no-untyped-def]
        ctx.plan, _, *leaves = args
        ctx.num_leaves, ctx.num_results = len(leaves), len(results)
        ctx.save_for_backward(*leaves, *results, *kept)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, saved, *upstream):  # type: ignore[no-untyped-def]
        leaves, saved = saved[: ctx.num_leaves], saved[ctx.num_leaves :]
        results, (state, *visitors) = saved[: ctx.num_results], saved[ctx.num_results :]
        plan = ctx.plan
        wanted = ctx.needs_input_grad[2:]
        # what every rank adds to a line's gradient is rounded once, at home
        gradients = backward_pass(
            plan,
            leaves,
            by_reduction(plan.problem, results),
            by_reduction(plan.problem, upstream),
            state,
            tuple(visitors),
            wanted,
            statistics_dtype(plan.problem.dtype),
        )
        found = [None if g is None else g.to(leaf.dtype) for g, leaf in zip(gradients, leaves, strict=True)]
        return None, None, *found

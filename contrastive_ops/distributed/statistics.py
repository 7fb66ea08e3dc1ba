"""Row and column statistics of a score matrix whose rows and columns are spread over ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from contrastive_ops.backends import Wanted
from contrastive_ops.distributed.agreement import Distribution, Strategy, Task, Team, agree
from contrastive_ops.distributed.carriers import AtOnce, Carrier, InTurns, first_lines
from contrastive_ops.distributed.passes import Plan, backward_pass, forward_pass
from contrastive_ops.ops.once import differentiable_once
from contrastive_ops.ops.rule import Rule
from contrastive_ops.ops.schema import NUM_INPUTS, differentiable_inputs
from contrastive_ops.ops.transforms import requires_grad
from contrastive_ops.problem import DEFAULT_WORKSPACE_BYTES, Problem, Statistics, build_problem, statistics_dtype
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
            scale=scale,
            row_bias=row_bias,
            col_bias=col_bias,
            candidates=candidates,
            positives=positives,
            rows=rows,
            columns=columns,
            workspace_bytes=workspace_bytes,
        )
        return Task(problem, backend, {})

    return statistics_of_team(*agree("similarity_statistics", distribution, prepare), distribution)


def local_problem(queries: Tensor, keys: Tensor, **options: Any) -> Problem:
    """This rank's own rows against its own columns, checked as in one process; options as of `build_problem`."""
    problem = build_problem(queries, keys, **options)
    if problem.queries.dim() != 2:
        raise ValueError(f"queries and keys must be [rows, D] on every rank, got shape {tuple(problem.queries.shape)}")
    return problem


def statistics_of_team(task: Task, team: Team, distribution: Distribution) -> Statistics:
    """The statistics of this rank's lines over those of all ranks of the team. All of them call it together."""
    problem = task.problem
    counts = team.row_counts if team.rows_travel else team.col_counts
    inputs = differentiable_inputs(problem)
    plan = Plan(
        relations=_without_tensors(problem),
        backend=task.backend,
        carrier=carrier_for(distribution, counts, team),
        rows_travel=team.rows_travel,
        starts=(first_lines(team.row_counts)[team.ranks.rank], first_lines(team.col_counts)[team.ranks.rank]),
        wire_dtype=distribution.wire_dtype or problem.queries.dtype,
    )
    needs_grad = torch.is_grad_enabled() and requires_grad(*inputs)
    constants = (problem.score.mixing, *problem.flatten_relations()[2])
    return Statistics(*_DistributedStatistics.apply(plan, needs_grad, *inputs, *constants))


def carrier_for(distribution: Distribution, counts: Sequence[int], team: Team) -> Carrier:
    """Moves lines, of which the ranks of the team have so many each."""
    return InTurns(counts, team.ranks) if distribution.strategy == "ring" else AtOnce(counts, team.ranks)


def _without_tensors(problem: Problem) -> Problem:
    """Relations, options and constants alone, for a graph to hold."""
    none = problem.scale.detach().new_empty((0,))
    score = problem.score._replace(row_term=None, col_term=None)
    return problem._replace(queries=none, keys=none, scale=none, row_bias=None, col_bias=None, score=score)


class _DistributedStatistics(Rule):
    num_outputs = len(Statistics._fields)

    @staticmethod
    def run(plan, needs_grad, *tensors):  # type: ignore[no-untyped-def]
        inputs, plan = tensors[:NUM_INPUTS], plan.with_constants(*tensors[NUM_INPUTS:])
        statistics, state, visitors = forward_pass(plan, inputs, keep=needs_grad and plan.carrier.keeps_visits)
        return tuple(statistics), (state, *visitors)

    @staticmethod
    def keep(ctx: Any, args, statistics, kept):  # type: ignore[no-untyped-def]
        ctx.plan, _, *tensors = args
        ctx.num_tensors = len(tensors)
        ctx.save_for_backward(*tensors, *statistics, *kept)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, saved, *upstream):  # type: ignore[no-untyped-def]
        tensors, saved = saved[: ctx.num_tensors], saved[ctx.num_tensors :]
        inputs, constants = tensors[:NUM_INPUTS], tensors[NUM_INPUTS:]
        plan = ctx.plan.with_constants(*constants)
        statistics, (state, *visitors) = Statistics(*saved[:4]), saved[4:]
        # what every rank adds to a line's gradient is rounded once, at home
        wanted = Wanted(*ctx.needs_input_grad[2 : 2 + NUM_INPUTS])._replace(dtype=statistics_dtype(inputs[0].dtype))
        gradients = backward_pass(plan, inputs, statistics, Statistics(*upstream), state, tuple(visitors), wanted)
        found = [
            None if gradient is None else gradient.to(value.dtype)
            for gradient, value in zip(gradients, inputs, strict=True)
        ]
        return None, None, *found, *(None for _ in constants)

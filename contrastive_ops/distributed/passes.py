"""The forward and the backward pass of the statistics, written over visits: the same for every strategy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from contrastive_ops.backends import Wanted
from contrastive_ops.distributed.carriers import Carrier, Combine
from contrastive_ops.distributed.collectives import Tensors
from contrastive_ops.distributed.lines import Lines, block, line_first, own_lines
from contrastive_ops.ops import partial_gradients, partial_statistics
from contrastive_ops.problem import Gradients, Problem, Statistics, unflatten_relations

T = TypeVar("T")
Inputs = Sequence[Tensor | None]  # in the order of `Gradients`

# how the shares of a line's lse and sum, over disjoint sets of pairs, become one
MERGE: tuple[Combine, Combine] = (torch.logaddexp, torch.add)


@dataclass(frozen=True)
class Plan:
    """How one call is done: everything but its differentiable inputs."""

    relations: Problem  # relations, directions and options; its differentiable inputs are empty
    backend: str | None
    carrier: Carrier
    rows_travel: bool  # the columns do otherwise
    starts: tuple[int, int]  # index of this rank's first row and column among those of all ranks
    wire_dtype: torch.dtype

    def by_role(self, of_rows: T, of_columns: T) -> tuple[T, T]:
        """(staying, travelling) from (rows, columns), and just as well back."""
        return (of_columns, of_rows) if self.rows_travel else (of_rows, of_columns)

    def with_constants(self, mixing: Tensor | None, *ids: Tensor) -> Plan:
        """The same with these in the place of the tensors that score and relations have."""
        kinds, offsets, _, num_candidate_clauses = self.relations.flatten_relations()
        candidates, positives = unflatten_relations(kinds, offsets, ids, num_candidate_clauses)
        relations = self.relations._replace(
            candidates=candidates,
            positives=None if self.relations.positives is None else positives,
            score=self.relations.score._replace(mixing=mixing),
        )
        return replace(self, relations=relations)

    def own(self, inputs: Inputs) -> tuple[Problem, Lines, Lines]:
        """This rank's problem and its (staying, travelling) lines."""
        queries, keys, scale, row_bias, col_bias, row_term, col_term = inputs
        assert queries is not None and keys is not None and scale is not None
        problem = self.relations._replace(
            queries=queries,
            keys=keys,
            scale=scale,
            row_bias=row_bias,
            col_bias=col_bias,
            score=self.relations.score._replace(row_term=row_term, col_term=col_term),
        )
        return problem, *self.by_role(*own_lines(problem, *self.starts))


def forward_pass(plan: Plan, inputs: Inputs, *, keep: bool) -> tuple[Statistics, Tensor | None, Tensors]:
    """(statistics of this rank's lines; if `keep`: the backend's state and the visitors, for a single visit)."""
    problem, stay, travel = plan.own(inputs)
    carrier = plan.carrier
    merge = MERGE[: 1 if problem.positives is None else 2]
    _, travellers_have_statistics = plan.by_role(problem.rows, problem.columns)
    homeward = carrier.homeward(merge) if travellers_have_statistics else None
    own: Tensors = ()
    for start, packed in zip(carrier.starts, carrier.visits(travel.packed(plan.wire_dtype)), strict=True):
        rows, cols = plan.by_role(stay, travel.unpacked(start, packed))
        part = block(problem, rows, cols, problem.workspace_bytes if keep else 0)
        statistics, state = partial_statistics(part, plan.backend)
        of_stay, of_visitors = plan.by_role(_unbatched(statistics[:2]), _unbatched(statistics[2:]))
        own = _combined(merge, own, of_stay)
        if homeward is not None:
            homeward.add(of_visitors)
    of_rows, of_columns = plan.by_role(own, () if homeward is None else homeward.arrived())
    sums = problem.positives is not None
    result = Statistics(
        *_placed(of_rows, (problem.rows, problem.rows and sums)),
        *_placed(of_columns, (problem.columns, problem.columns and sums)),
    )
    return (result, state, packed) if keep else (result, None, ())


def backward_pass(
    plan: Plan,
    inputs: Inputs,
    statistics: Statistics,
    upstream: Statistics,
    state: Tensor | None,
    visitors: Tensors,
    wanted: Wanted,
) -> Gradients:
    """Gradients of this rank's inputs: those of its lines complete, that of the scale its part of the sum over ranks.

    Visitors bring along what the formula of dS asks of their lines: merged lse and upstream gradients.
    """
    problem, stay, travel = plan.own(inputs)
    carrier = plan.carrier
    wanted_of_rows = (wanted.queries, wanted.row_bias, wanted.row_term)
    wanted_of_columns = (wanted.keys, wanted.col_bias, wanted.col_term)
    _, wanted_of_travel = plan.by_role(wanted_of_rows, wanted_of_columns)
    homeward = carrier.homeward([torch.add] * sum(wanted_of_travel)) if any(wanted_of_travel) else None
    # of a line: (lse, d_lse, d_sum)
    knows, brings = plan.by_role(
        _present((statistics.row_lse, *upstream[:2])), _present((statistics.col_lse, *upstream[2:]))
    )
    visits = iter((visitors,)) if visitors else carrier.visits(travel.packed(plan.wire_dtype))
    along = carrier.visits((torch.stack(brings, 1),) if brings else ())
    own: Tensors = ()
    scale: Tensor | None = None
    for start, packed, brought in zip(carrier.starts, visits, along, strict=True):
        rows, cols = plan.by_role(stay, travel.unpacked(start, packed))
        part = block(problem, rows, cols, problem.workspace_bytes)
        of_rows, of_columns = plan.by_role(knows, brought[0].unbind(1) if brought else ())
        merged, part_upstream = _statistics_and_upstream(part, of_rows, of_columns)
        gradients = partial_gradients(part, plan.backend, merged, part_upstream, state, wanted)
        of_stay, of_visitors = plan.by_role(*_gradients_of_lines(gradients))
        own = _combined((torch.add,) * 3, own, of_stay)
        if homeward is not None:
            homeward.add(of_visitors)
        if gradients.scale is not None:
            part_of_scale = gradients.scale.double()  # parts cancel: positives and negatives are in different blocks
            scale = part_of_scale if scale is None else scale + part_of_scale
    of_rows, of_columns = plan.by_role(own, () if homeward is None else homeward.arrived())
    queries, row_bias, row_term = _placed(of_rows, wanted_of_rows)
    keys, col_bias, col_term = _placed(of_columns, wanted_of_columns)
    keys = None if keys is None else keys.movedim(0, -2)
    return Gradients(queries, keys, scale, row_bias, col_bias, row_term, col_term)


def _statistics_and_upstream(part: Problem, of_rows: Tensors, of_columns: Tensors) -> tuple[Statistics, Statistics]:
    """From each side's (lse, d_lse, d_sum), as far as they are there, with a batch dimension."""
    sums = part.positives is not None

    def sides(tensors: Tensors, present: bool) -> tuple[Tensor | None, ...]:
        return _placed([x[None].contiguous() for x in tensors], (present, present, present and sums))

    row_lse, d_row_lse, d_row_sum = sides(of_rows, part.rows)
    col_lse, d_col_lse, d_col_sum = sides(of_columns, part.columns)
    return Statistics(row_lse, None, col_lse, None), Statistics(d_row_lse, d_row_sum, d_col_lse, d_col_sum)


def _gradients_of_lines(gradients: Gradients) -> tuple[Tensors, Tensors]:
    """Those of the (rows, columns), each `[n, ...]`."""
    of_rows = _unbatched((gradients.queries, gradients.row_bias, gradients.row_term))
    of_columns = _unbatched((gradients.keys, gradients.col_bias, gradients.col_term))
    if gradients.keys is not None:
        of_columns = (line_first(of_columns[0]), *of_columns[1:])
    return of_rows, of_columns


def _present(values: Sequence[Tensor | None]) -> Tensors:
    return tuple(x for x in values if x is not None)


def _unbatched(values: Sequence[Tensor | None]) -> Tensors:
    """Without the batch dimension that backends work with."""
    return tuple(x.squeeze(0) for x in values if x is not None)


def _placed(values: Sequence[Tensor], present: Sequence[bool]) -> tuple[Tensor | None, ...]:
    """Inverse of leaving out: None where nothing is present."""
    remaining = iter(values)
    return tuple(next(remaining) if here else None for here in present)


def _combined(how: Sequence[Combine], so_far: Tensors, more: Tensors) -> Tensors:
    """`more` itself where nothing was before it."""
    return tuple(combine(a, b) for combine, a, b in zip(how, so_far, more, strict=False)) if so_far else more

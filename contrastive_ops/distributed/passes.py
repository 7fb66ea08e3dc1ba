"""The forward and the backward pass of the reductions, written over visits: the same for every strategy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from contrastive_ops.backends import Wanted
from contrastive_ops.distributed.carriers import Carrier, Combine
from contrastive_ops.distributed.collectives import Tensors
from contrastive_ops.distributed.lines import Lines, block, own_lines
from contrastive_ops.leaves import Axis, lines_first, lines_in_place
from contrastive_ops.ops import partial_gradients, partial_results
from contrastive_ops.problem import Problem, Results
from contrastive_ops.reductions import Reduced, Reduction

T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """How one call is done: everything but its leaves."""

    problem: Problem  # its tensors are empty; without self-similarity, as a rank's rows meet others' columns
    backend: str | None
    carrier: Carrier
    rows_travel: bool  # the columns do otherwise
    starts: tuple[int, int]  # index of this rank's first row and column among those of all ranks
    wire_dtype: torch.dtype

    def by_role(self, of_rows: T, of_columns: T) -> tuple[T, T]:
        """(staying, travelling) from (rows, columns), and just as well back."""
        return (of_columns, of_rows) if self.rows_travel else (of_rows, of_columns)

    def own(self, leaves: Sequence[Tensor]) -> tuple[Problem, Lines, Lines]:
        """This rank's problem and its (staying, travelling) lines."""
        problem = self.problem.with_leaves(leaves)
        return problem, *self.by_role(*own_lines(problem, *self.starts))


def forward_pass(plan: Plan, leaves: Sequence[Tensor], *, keep: bool) -> tuple[Results, Tensor | None, Tensors]:
    """(results of this rank's lines; if `keep`: the backend's state and the visitors, for a single visit)."""
    problem, stay, travel = plan.own(leaves)
    carrier = plan.carrier
    how_stay, how_travel = plan.by_role(*(_merges(problem, axis) for axis in (Axis.ROWS, Axis.COLS)))
    homeward = carrier.homeward(how_travel) if how_travel else None
    own: Tensors = ()
    for start, packed in zip(carrier.starts, carrier.visits(travel.packed(plan.wire_dtype)), strict=True):
        rows, cols = plan.by_role(stay, travel.unpacked(start, packed))
        part = block(problem, rows, cols, problem.workspace_bytes if keep else 0)
        results, state = partial_results(part, plan.backend)
        of_stay, of_visitors = plan.by_role(
            _unbatched([x.rows for x in results]), _unbatched([x.columns for x in results])
        )
        own = _combined(how_stay, own, of_stay)
        if homeward is not None:
            homeward.add(of_visitors)
    of_rows, of_columns = map(iter, plan.by_role(own, () if homeward is None else homeward.arrived()))
    found = tuple(
        Reduced(next(of_rows) if r.rows else None, next(of_columns) if r.columns else None) for r in problem.reductions
    )
    return (found, state, packed) if keep else (found, None, ())


def backward_pass(
    plan: Plan,
    leaves: Sequence[Tensor],
    results: Results,
    upstream: Results,
    state: Tensor | None,
    visitors: Tensors,
    wanted: Sequence[bool],
    dtype: torch.dtype,
) -> list[Tensor | None]:
    """Gradients of this rank's leaves in that dtype: those of its lines complete, that of the scale its part of the sum
    over ranks.

    Visitors bring along what slopes ask of their lines: merged results and upstream gradients.
    """
    problem, stay, travel = plan.own(leaves)
    carrier = plan.carrier
    asked = [leaf for (leaf, _), want in zip(problem.leaves(), wanted, strict=True) if want]
    asked_of_rows, asked_of_cols = ([x for x in asked if x.axis is axis] for axis in (Axis.ROWS, Axis.COLS))
    asked_of_stay, asked_of_travel = plan.by_role(asked_of_rows, asked_of_cols)
    homeward = carrier.homeward([torch.add] * len(asked_of_travel)) if asked_of_travel else None
    dims = {leaf: tensor.dim() for leaf, tensor in problem.leaves()}
    asked_names = Wanted.of(asked, dtype)
    knows, brings = plan.by_role(
        _known(problem, results, upstream, Axis.ROWS), _known(problem, results, upstream, Axis.COLS)
    )
    visits = iter((visitors,)) if visitors else carrier.visits(travel.packed(plan.wire_dtype))
    along = carrier.visits((torch.stack(brings, 1),) if brings else ())
    own: Tensors = ()
    scale: Tensor | None = None
    for start, packed, brought in zip(carrier.starts, visits, along, strict=True):
        rows, cols = plan.by_role(stay, travel.unpacked(start, packed))
        part = block(problem, rows, cols, problem.workspace_bytes)
        of_rows, of_columns = plan.by_role(knows, brought[0].unbind(1) if brought else ())
        merged, part_upstream = _results_and_upstream(problem, of_rows, of_columns)
        gradients = partial_gradients(part, plan.backend, merged, part_upstream, state, asked_names)
        of_stay, of_visitors = (
            tuple(lines_first(leaf, _as_own(gradients.of(leaf), dims[leaf])) for leaf in side)
            for side in (asked_of_stay, asked_of_travel)
        )
        own = _combined([torch.add] * len(of_stay), own, of_stay)
        if homeward is not None:
            homeward.add(of_visitors)
        if gradients.scale is not None:
            part_of_scale = gradients.scale.double()  # parts cancel: positives and negatives are in different blocks
            scale = part_of_scale if scale is None else scale + part_of_scale
    found = dict(zip(asked_of_stay, own, strict=True))
    if homeward is not None:
        found |= zip(asked_of_travel, homeward.arrived(), strict=True)
    return [
        None if not want else scale if leaf.axis is Axis.NONE else lines_in_place(leaf, found[leaf])
        for (leaf, _), want in zip(problem.leaves(), wanted, strict=True)
    ]


def _merges(problem: Problem, axis: Axis) -> list[Combine]:
    """How the shares of the lines along an axis, over disjoint sets of pairs, become one: reduction by reduction."""
    return [
        torch.add if r.merges_by_adding else r.merge
        for r in problem.reductions
        if (r.rows if axis is Axis.ROWS else r.columns)
    ]


def _along(reduced: Reduced, axis: Axis) -> Tensor | None:
    return reduced.rows if axis is Axis.ROWS else reduced.columns


def _known(problem: Problem, results: Results, upstream: Results, axis: Axis) -> Tensors:
    """Of each line along an axis: what `_results_and_upstream` takes."""
    found = []
    for reduction, result, given in zip(problem.reductions, results, upstream, strict=True):
        if not reduction.has_slope:
            continue
        for value in ((result,) if reduction.slope_has_result else ()) + (given,):
            line = _along(value, axis)
            if line is not None:
                found.append(line)
    return tuple(found)


def _results_and_upstream(problem: Problem, of_rows: Tensors, of_columns: Tensors) -> tuple[Results, Results]:
    """Inverse of `_known` on both sides, with a batch dimension."""
    rows, columns = (iter([x[None].contiguous() for x in side]) for side in (of_rows, of_columns))

    def following(reduction: Reduction) -> Reduced:
        has_slope = reduction.has_slope
        return Reduced(
            next(rows) if reduction.rows and has_slope else None,
            next(columns) if reduction.columns and has_slope else None,
        )

    nothing = Reduced(None, None)
    pairs = [(following(r) if r.slope_has_result else nothing, following(r)) for r in problem.reductions]
    return tuple(result for result, _ in pairs), tuple(given for _, given in pairs)


def _as_own(gradient: Tensor, dims: int) -> Tensor:
    """Without the dimensions of batch and vectors that this rank's leaf does not have."""
    for _ in range(gradient.dim() - dims):
        gradient = gradient.squeeze(0)
    return gradient


def _unbatched(values: Sequence[Tensor | None]) -> Tensors:
    """Without the batch dimension that backends work with."""
    return tuple(x.squeeze(0) for x in values if x is not None)


def _combined(how: Sequence[Combine], so_far: Tensors, more: Tensors) -> Tensors:
    """`more` itself where nothing was before it."""
    return tuple(combine(a, b) for combine, a, b in zip(how, so_far, more, strict=True)) if so_far else more

"""The native backend: which way round a problem is walked, and what its passes are asked for."""

from __future__ import annotations

from torch import Tensor

from contrastive_ops.backends.base import Outer, Wanted, missing_reductions
from contrastive_ops.backends.cpu import native
from contrastive_ops.backends.cpu.memory import new_state, plan_of, state_layout
from contrastive_ops.backends.cpu.panels import finish_by_panels, is_finished_at_once
from contrastive_ops.backends.cpu.passes import Outputs, gradient_pass, score_pass
from contrastive_ops.backends.cpu.tiling import Shape, has_few
from contrastive_ops.backends.panels import finish_at_once
from contrastive_ops.problem import Gradients, Problem, Results
from contrastive_ops.reductions import Reduced, Reduction, ReductionKind


class CpuBackend:
    name = "cpu"
    reductions = (
        ReductionKind.LOG_SUM_EXP,
        ReductionKind.SCORE_SUM,
        ReductionKind.LARGEST,
        ReductionKind.COUNT_ABOVE,
    )
    summary = "native C++ (AVX-512, AVX2 or portable); O((M+N)*D) memory + budget"

    def missing(self) -> str | None:
        return native.missing()

    def reasons(self, problem: Problem) -> list[str]:
        missing = self.missing()
        reasons = [] if missing is None else [missing]
        if problem.scale.device.type != "cpu":
            reasons.append(f"tensors must be on the CPU, got {problem.scale.device}")
        return reasons + missing_reductions(problem, self.reductions)

    def state_bytes(self, problem: Problem) -> int:
        return state_layout(Shape.of(problem)).total  # the same for the transposed problem

    def forward(self, problem: Problem) -> tuple[Results, Tensor | None]:
        if _has_few_columns(problem):
            results, state = self.forward(problem.transposed())
            return _transposed(results), state
        shape = Shape.of(problem)
        state = new_state(plan_of(shape).state.total) if shape.has_slope else None
        if problem.is_empty:
            return problem.neutral_results(), state
        results = score_pass(problem, shape, state)
        if problem.self_similarity:
            results = tuple([_both_directions(*each) for each in zip(results, problem.reductions, strict=True)])
        return results, state

    def backward(
        self, problem: Problem, results: Results, upstream: Results, state: Tensor, wanted: Wanted
    ) -> Gradients:
        if _has_few_columns(problem):
            turned = self.backward(
                problem.transposed(), _transposed(results), _transposed(upstream), state, wanted.transposed()
            )
            return turned.transposed()
        if problem.self_similarity:
            results, upstream = _merge_directions(results, upstream)
        outputs = Outputs.new(problem, wanted)
        if problem.is_empty:
            outputs.clear()
        else:
            gradient_pass(problem, Shape.of(problem), results, upstream, state, outputs)
        return outputs.gradients(wanted, problem.scale.dtype)

    def total_and_gradients(self, problem: Problem, outer: Outer, wanted: Wanted) -> tuple[Tensor, Gradients]:
        if is_finished_at_once(problem) or _has_few_columns(problem):
            return finish_at_once(self, problem, outer, wanted)
        return finish_by_panels(problem, outer, wanted)


def _has_few_columns(problem: Problem) -> bool:
    """Whether the transposed problem is one of few rows."""
    _, m, n, _ = problem.sizes
    return has_few(n, m) and not problem.self_similarity and not problem.score.has_roles


def _transposed(results: Results) -> Results:
    return tuple([Reduced(columns, rows) for rows, columns in results])


def _both_directions(result: Reduced, reduction: Reduction) -> Reduced:
    """Self-similarity: one direction is the other; what an operator returns must not share memory."""
    rows = result.rows
    if not reduction.columns or rows is None:
        return result
    return Reduced(rows, rows.clone()) if reduction.rows else Reduced(None, rows)


def _merge_directions(results: Results, upstream: Results) -> tuple[Results, Results]:
    """Self-similarity: row and column results are one, so their upstream gradients add up."""

    def add(first: Tensor | None, second: Tensor | None) -> Tensor | None:
        return second if first is None else first if second is None else first + second

    return (
        tuple(Reduced(x.rows if x.rows is not None else x.columns, None) for x in results),
        tuple(Reduced(add(*x), None) for x in upstream),
    )

"""The primitive: reductions of the rows and columns of a score matrix that is never stored, differentiable once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from contrastive_ops.backends import Wanted, check_backend_name, select_backend
from contrastive_ops.build_problem import build_problem
from contrastive_ops.check import without_autocast
from contrastive_ops.form import flatten, has_batch, parse, unflatten
from contrastive_ops.ops.once import differentiable_once
from contrastive_ops.ops.rule import Rule
from contrastive_ops.ops.transforms import requires_grad
from contrastive_ops.problem import DEFAULT_WORKSPACE_BYTES, Problem, Results
from contrastive_ops.reductions import Reduced, Reduction

# the variant travels in `form`, and the backend is chosen inside, on real tensors: a compiled graph sees one call
torch.library.define(
    "contrastive_ops::reduce", "(Tensor[] leaves, SymInt[] numbers, str form, str? backend) -> Tensor[]"
)
torch.library.define(
    "contrastive_ops::reduce_backward",
    "(Tensor[] leaves, SymInt[] numbers, str form, str? backend, Tensor[] results, Tensor?[] upstream, bool[] wanted) "
    "-> Tensor[]",
)


def reduce(
    queries: Tensor,
    keys: Tensor,
    reductions: Mapping[str, Reduction],
    *,
    scale: float | Tensor = 1.0,
    row_bias: Tensor | None = None,
    col_bias: Tensor | None = None,
    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES,
    backend: str | None = None,
) -> dict[str, Reduced]:
    """Several reductions of the rows and columns of the scores, from one pass over them.

        s_ij = scale * <q_i, k_j> + row_bias_i + col_bias_j

    The M x N scores are walked in tiles and never stored (but for `workspace_bytes`).

    Args:
        queries: `[M, D]` or `[B, M, D]`; float32, float64, bfloat16 or float16, any strides.
        keys: `[N, D]` or `[B, N, D]`, same dtype and device. Passing the *same tensor* as `queries` with
            symmetric relations visits only half of the pairs.
        reductions: 1 to 4, by names of your choice: `LogSumExp`, `ScoreSum`, `Largest`, `CountAbove`, each with its
            relation, its directions and, for another temperature, its factor of the scores.
        scale: multiplies the products (the inverse of a temperature); float or one-element tensor.
        row_bias, col_bias: `[M]` and `[N]` (with `[B, ...]`), added to the scores of a row and of a column.
        workspace_bytes: upper bound for scores kept from forward for backward; more is faster, 0 recomputes all.
        backend: None for the first that can, or a name: `"cpu"`, `"triton"`, `"cuda"`, `"eager"`, `"reference"`.

    Returns:
        `Reduced(rows, columns)` under every name: `[M]` and `[N]` (`[B, M]`, `[B, N]`), None for a direction that was
        not asked for; float32 (float64 for float64 inputs), counts int64. Log-sum-exps and sums are differentiable
        once, in every floating input but factors; largest scores and counts are constants.

    Raises:
        ValueError, TypeError: naming got and expected, before any work is done.

    Example:
        >>> found = reduce(image, text, {"all": LogSumExp(columns=True), "pair": ScoreSum(diagonal())}, scale=20.0)
        >>> loss = (found["all"].rows + found["all"].columns).mean() / 2 - found["pair"].rows.mean()
    """
    check_backend_name(backend)
    if not isinstance(reductions, Mapping):
        raise TypeError(f"reductions must be a dict of Reductions by name, got {type(reductions).__name__}")
    problem = build_problem(
        queries,
        keys,
        {f"reductions[{name!r}]": reduction for name, reduction in reductions.items()},
        scale=scale,
        row_bias=row_bias,
        col_bias=col_bias,
        workspace_bytes=workspace_bytes,
    )
    return dict(zip(reductions, reduced(problem, backend), strict=True))


def reduced(problem: Problem, backend: str | None) -> Results:
    """The reductions of a problem as `build_problem` makes it, differentiable once."""
    flat = flatten(problem, problem.workspace_bytes)
    if not (torch.is_grad_enabled() and requires_grad(*flat.leaves)):
        flat.numbers[0] = 0  # no backward to keep scores for
    have_slope = [r.has_slope for r in problem.reductions for _ in r.dims]
    constants = [i for i, has_slope in enumerate(have_slope) if not has_slope]
    outputs = _Reduce.apply(backend, flat.form, flat.numbers, constants, *flat.leaves)
    return by_reduction(problem, outputs)


def by_reduction(problem: Problem, numbers: Sequence[Any]) -> Results:
    """What there is of each reduction and direction, from the order of the operators."""
    following = iter(numbers)
    return tuple([reduction.reduced(following) for reduction in problem.reductions])


def in_order(results: Results) -> list[Tensor]:
    """Inverse of `by_reduction`."""
    return [value for reduced in results for value in reduced if value is not None]


class _Reduce(Rule):
    num_outputs = -1  # all but the state

    @staticmethod
    def run(backend, form, numbers, constants, *leaves):  # type: ignore[no-untyped-def]
        *results, state = torch.ops.contrastive_ops.reduce(leaves, numbers, form, backend)
        return tuple(results), (state,)

    @staticmethod
    def keep(ctx: Any, args, results, kept):  # type: ignore[no-untyped-def]
        ctx.backend, ctx.form, ctx.numbers, constants, *leaves = args
        ctx.num_leaves = len(leaves)
        ctx.save_for_backward(*leaves, *results, *kept)
        ctx.set_materialize_grads(False)
        if constants:
            ctx.mark_non_differentiable(*[results[i] for i in constants])

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, saved, *upstream):  # type: ignore[no-untyped-def]
        leaves, results = saved[: ctx.num_leaves], saved[ctx.num_leaves :]
        wanted = list(ctx.needs_input_grad[4:])
        gradients = torch.ops.contrastive_ops.reduce_backward(
            leaves, ctx.numbers, ctx.form, ctx.backend, results, upstream, wanted
        )
        return None, None, None, None, *[g if want else None for g, want in zip(gradients, wanted, strict=True)]


@torch.library.impl("contrastive_ops::reduce", "CompositeExplicitAutograd")
def _reduce(leaves, numbers, form, name):  # type: ignore[no-untyped-def]
    problem = unflatten(leaves, numbers, form)
    with without_autocast(problem.rows.vectors):
        results, state = select_backend(problem, name).forward(problem)
    found = in_order(results)
    if not has_batch(leaves, form):
        found = [value.squeeze(0) for value in found]
    return [*found, problem.scale.new_empty((0,), dtype=torch.uint8) if state is None else state]


@torch.library.register_fake("contrastive_ops::reduce")
def _reduce_fake(leaves, numbers, form, name):  # type: ignore[no-untyped-def]
    problem = unflatten(leaves, numbers, form)
    batch, m, n, _ = problem.sizes
    entries = (batch,) if has_batch(leaves, form) else ()
    new = problem.scale.new_empty
    results = [
        new((*entries, length), dtype=reduction.result_dtype(problem.scale.dtype))
        for reduction in problem.reductions
        for length, wanted in ((m, reduction.rows), (n, reduction.columns))
        if wanted
    ]
    return [*results, new((select_backend(problem, name).state_bytes(problem),), dtype=torch.uint8)]


@torch.library.impl("contrastive_ops::reduce_backward", "CompositeExplicitAutograd")
def _reduce_backward(leaves, numbers, form, name, results, upstream, wanted):  # type: ignore[no-untyped-def]
    problem = unflatten(leaves, numbers, form)
    *results, state = results
    if not has_batch(leaves, form):
        results = [value.unsqueeze(0) for value in results]
        upstream = [None if value is None else value.unsqueeze(0) for value in upstream]
    places = parse(form).leaves
    asked = Wanted.of([leaf for leaf, want in zip(places, wanted, strict=True) if want])
    with without_autocast(problem.rows.vectors):
        gradients = select_backend(problem, name).backward(
            problem, by_reduction(problem, results), by_reduction(problem, upstream), state, asked
        )
    return [
        gradients.of(leaf).view(tensor.shape) if want else tensor.new_empty((0,))
        for leaf, tensor, want in zip(places, leaves, wanted, strict=True)
    ]


@torch.library.register_fake("contrastive_ops::reduce_backward")
def _reduce_backward_fake(leaves, numbers, form, name, results, upstream, wanted):  # type: ignore[no-untyped-def]
    return [leaf.new_empty(leaf.shape if want else (0,)) for leaf, want in zip(leaves, wanted, strict=True)]

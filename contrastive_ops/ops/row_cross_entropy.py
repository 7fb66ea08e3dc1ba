"""Sum over rows of the positive's cross-entropy, with the gradient formed in the forward pass: three products."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from contrastive_ops.backends import check_backend_name
from contrastive_ops.build_problem import build_problem
from contrastive_ops.form import flatten, parse, unflatten
from contrastive_ops.ops.cross_entropy import cross_entropy_of_positive
from contrastive_ops.ops.once import differentiable_once
from contrastive_ops.ops.panels import total_and_gradients
from contrastive_ops.ops.rule import Rule
from contrastive_ops.ops.statistics import statistics_reductions
from contrastive_ops.ops.transforms import require_grad
from contrastive_ops.problem import DEFAULT_WORKSPACE_BYTES, Results, statistics_dtype
from contrastive_ops.readable import is_readable
from contrastive_ops.reductions import Reduced
from contrastive_ops.relations import Relation

torch.library.define(
    "contrastive_ops::row_cross_entropy",
    "(Tensor[] leaves, SymInt[] numbers, str form, SymInt divisor, str? backend, bool[] wanted) -> Tensor[]",
)


def summed_row_cross_entropy(
    queries: Tensor,
    keys: Tensor,
    *,
    scale: float | Tensor = 1.0,
    row_bias: Tensor | None = None,
    col_bias: Tensor | None = None,
    candidates: Relation,
    positives: Relation,
    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES,
    backend: str | None = None,
) -> Tensor:
    """sum_i softplus(row_lse_i - row_sum_i) over all rows (and batches), with row statistics as in
    `similarity_statistics`.

    One direction lets a panel of rows finish at once: its scores stay in the workspace, its lse is known, and since
    the upstream gradient is one number for all rows, dQ and dK follow in the forward pass without computing a score
    twice: three products instead of four, at any size. Gradients are held from forward to backward, in the
    statistics dtype.

    Args: as `similarity_statistics`; `positives` holds at most one pair of each row, which `candidates` leave out.

    Returns:
        0-dim, float32 (float64 for float64 inputs).
    """
    options = {"scale": scale, "row_bias": row_bias, "col_bias": col_bias, "workspace_bytes": workspace_bytes}
    return divided_row_cross_entropy(
        queries, keys, 1, candidates=candidates, positives=positives, backend=backend, **options
    )


def divided_row_cross_entropy(
    queries: Tensor,
    keys: Tensor,
    divisor: int,
    *,
    candidates: Relation,
    positives: Relation,
    backend: str | None = None,
    **options: Any,
) -> Tensor:
    """`summed_row_cross_entropy` over the divisor: inside, so that the upstream gradient of a mean is 1, and gradients
    that are there need not be passed over once more."""
    check_backend_name(backend)
    problem = build_problem(
        queries,
        keys.view_as(keys) if keys is queries else keys,  # one direction has no self-similarity to use
        statistics_reductions(candidates, positives),
        **options,
    )
    flat = flatten(problem, problem.workspace_bytes)
    wanted = require_grad(flat.leaves) if torch.is_grad_enabled() else [False] * len(flat.leaves)
    if not any(wanted):
        flat.numbers[0] = 0  # no gradient to keep scores for
    total: Tensor
    (total,) = _RowCrossEntropy.apply(backend, flat.form, flat.numbers, divisor, wanted, *flat.leaves)
    return total


class _RowCrossEntropy(Rule):
    @staticmethod
    def run(backend, form, numbers, divisor, wanted, *leaves):  # type: ignore[no-untyped-def]
        total, *gradients = torch.ops.contrastive_ops.row_cross_entropy(leaves, numbers, form, divisor, backend, wanted)
        return (total,), tuple(gradients)

    @staticmethod
    def keep(ctx: Any, args, outputs, gradients):  # type: ignore[no-untyped-def]
        _, _, _, _, ctx.wanted, *leaves = args
        # the leaves are saved for their graph alone: a second differentiation must find it and be refused
        ctx.save_for_backward(*gradients, *leaves)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, saved, d_total):  # type: ignore[no-untyped-def]
        gradients, leaves = saved[: len(ctx.wanted)], saved[len(ctx.wanted) :]
        # the last step of most losses: nothing to multiply by, and nobody else to come for what is saved
        is_one = is_readable(d_total) and not _keeps_graph() and d_total.item() == 1
        found = [
            (gradient if is_one else gradient * d_total).to(leaf.dtype) if want else None
            for gradient, leaf, want in zip(gradients, leaves, ctx.wanted, strict=True)
        ]
        return None, None, None, None, None, *found


def _keeps_graph() -> bool:
    """Whether another backward pass may follow this one: then it must not get what the user may have changed."""
    keeps = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", None)  # missing in old torch: copy
    return keeps is None or bool(keeps())


@torch.library.impl("contrastive_ops::row_cross_entropy", "CompositeExplicitAutograd")
def _row_cross_entropy(leaves, numbers, form, divisor, name, wanted):  # type: ignore[no-untyped-def]
    places = parse(form).leaves
    asked = [leaf for leaf, want in zip(places, wanted, strict=True) if want]
    total, gradients = total_and_gradients(
        unflatten(leaves, numbers, form), name, partial(_cross_entropy, divisor), asked
    )
    return [
        total,
        *(
            gradients.of(leaf).view(tensor.shape) if want else _absent(tensor)
            for leaf, tensor, want in zip(places, leaves, wanted, strict=True)
        ),
    ]


@torch.library.register_fake("contrastive_ops::row_cross_entropy")
def _row_cross_entropy_fake(leaves, numbers, form, divisor, name, wanted):  # type: ignore[no-untyped-def]
    return [
        leaves[0].new_empty(()),
        *(
            leaf.new_empty(leaf.shape, dtype=statistics_dtype(leaf.dtype)) if want else _absent(leaf)
            for leaf, want in zip(leaves, wanted, strict=True)
        ),
    ]


def _absent(leaf: Tensor) -> Tensor:
    return leaf.new_empty((0,), dtype=statistics_dtype(leaf.dtype))


def _cross_entropy(divisor: int, results: Results) -> tuple[Tensor, Results]:
    """d softplus(lse - s) = sigmoid(lse - s) (dlse - ds)"""
    (lse, _), (positive, _) = results
    assert lse is not None and positive is not None
    weight = torch.sigmoid(lse - positive) / divisor
    return cross_entropy_of_positive(lse, positive).sum() / divisor, (Reduced(weight, None), Reduced(-weight, None))

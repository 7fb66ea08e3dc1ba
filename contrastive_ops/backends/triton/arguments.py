"""What kernels are called with: the score matrix, the score, and embeddings by pointers or by descriptors."""

from __future__ import annotations

from typing import Any, NamedTuple

import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from contrastive_ops.backends.gpu.kernels import State
from contrastive_ops.backends.gpu.view import LineValues, View
from contrastive_ops.backends.triton.tiles import has_descriptors
from contrastive_ops.reductions import Reduction, ReductionKind
from contrastive_ops.relations import Clause
from contrastive_ops.triton_kernels import reduction, relation, score
from contrastive_ops.triton_kernels.tile import Strides

_KINDS = {kind: tl.constexpr(int(kind)) for kind in ReductionKind}


class Target(NamedTuple):
    """What the kernels are compiled for."""

    arch: str
    precision: str  # in the tile table: half, tf32, fp32 or fp64
    input_precision: str  # of tl.dot


def matrix_arguments(view: View, target: Target, block_m: int, block_n: int, block_d: int) -> dict[str, Any]:
    """The arguments that describe the score matrix, the same for every kernel."""
    _, m, n, d = view.sizes
    rows, cols = sides_by_line(view)
    return {
        **embedding_arguments(target, {"row": (rows, block_m, block_d), "col": (cols, block_n, block_d)}),
        "scale": view.scale,
        "row_bias": view.problem.rows.bias,
        "col_bias": view.problem.cols.bias,
        "num_rows": m,
        "num_cols": n,
        "D": d,
    }


def reduced_lines(view: View, rows: tuple[State, ...], columns: tuple[State, ...]) -> tuple[reduction.Reduction, ...]:
    """The reductions with their partials, for the score pass: those whose scores are masked in place come last, as the
    others need them whole."""
    reductions = view.problem.reductions
    order = sorted(range(len(reductions)), key=lambda i: reductions[i].overwrites)
    return tuple([_reduction(reductions[i], rows[i], columns[i]) for i in order])


def sloping_lines(view: View) -> tuple[reduction.Reduction, ...]:
    """The reductions with upstream gradients, for the gradient pass."""
    return tuple(
        [
            _reduction(each, _given(rows), _given(cols))
            for each, rows, cols in zip(view.problem.reductions, view.rows, view.cols, strict=True)
            if rows.upstream is not None or cols.upstream is not None
        ]
    )


def _given(values: LineValues) -> tuple[Tensor, ...]:
    return tuple([x for x in (values.upstream, values.result) if x is not None])


def _reduction(of: Reduction, rows: tuple[Tensor, ...], cols: tuple[Tensor, ...]) -> reduction.Reduction:
    return reduction.Reduction(
        _KINDS[of.kind],
        tuple(map(_clause, of.relation.clauses)),
        _present(of.factor),
        rows,
        cols,
        _present(of.row_values),
        _present(of.col_values),
    )


def partials_of(view: View, states: tuple[State, ...], results: list[Tensor | None]) -> tuple[reduction.Partials, ...]:
    """For the merge of one direction."""
    return tuple(
        [
            reduction.Partials(_KINDS[each.kind], state, result)
            for each, state, result in zip(view.problem.reductions, states, results, strict=True)
            if state
        ]
    )


def _present(tensor: Any) -> tuple[Any, ...]:
    return () if tensor is None else (tensor,)


def sides_by_line(view: View) -> tuple[Tensor, Tensor]:
    """Rows `[B, M, D]` and columns `[B, N, D]`, those of several banks `[B, N, K, D]`."""
    columns = view.col_vectors.transpose(1, 2) if view.num_banks > 1 else view.col_vectors[:, 0]
    return view.row_vectors, columns


def score_arguments(view: View) -> dict[str, Any]:
    """What is made of the products with the columns' banks, for the kernels of any score."""
    of = view.problem.score
    constants = tl.constexpr(int(of.kind)), tl.constexpr(of.absolute)
    return {
        "score": score.Score(constants[0], of.row_term, of.col_term, of.mixing, constants[1]),
        "BANKS": view.num_banks,
    }


def embedding_arguments(target: Target, sides: dict[str, tuple[Tensor, int, int]]) -> dict[str, Any]:
    """`<name>_data` and `<name>_strides` of sides `[B, size, D]` or `[B, size, K, D]`, each with the lines and columns
    of its tile: descriptors where the copy engine can read all of them, else pointers."""
    use_descriptors = has_descriptors(target.arch, target.precision) and all(
        _is_aligned(x) for x, _, _ in sides.values()
    )
    arguments: dict[str, Any] = {}
    for name, (side, block, block_d) in sides.items():
        batch, row, bank = _strides(side)
        if use_descriptors:
            # no stride may be 0, also where there is but one entry
            batch = batch or side.shape[1] * row
            bank_strides, banks = ([bank], [1]) if side.dim() == 4 else ([], [])
            strides, tile = [batch, row, *bank_strides, 1], [1, block, *banks, block_d]
            arguments[f"{name}_data"] = TensorDescriptor(side, list(side.shape), strides, tile)
            arguments[f"{name}_strides"] = ()
        else:
            arguments[f"{name}_data"] = side
            arguments[f"{name}_strides"] = Strides(batch, row, bank)
    return arguments


def _strides(side: Tensor) -> Strides:
    """What a single batch entry does not use must not decide how loads are compiled."""
    return Strides(side.stride(0) if side.shape[0] > 1 else 0, side.stride(1), side.stride(2) if side.dim() == 4 else 0)


def _is_aligned(side: Tensor) -> bool:
    """Whether the copy engine can read it: address and strides are multiples of 16 bytes, nothing is used twice."""
    batch, row, bank = _strides(side)
    is_shared = row < side.shape[-1] or (batch == 0 and side.shape[0] > 1)
    return not is_shared and all(
        number % 16 == 0 for number in (side.data_ptr(), *(x * side.itemsize for x in (batch, row, bank)))
    )


def _clause(clause: Clause) -> relation.DiagonalClause | relation.IdsClause:
    kind = tl.constexpr(int(clause.kind))
    if clause.row_ids is None or clause.col_ids is None:
        return relation.DiagonalClause(kind, clause.offset)
    strides = [ids.shape[1] if ids.shape[0] > 1 else 0 for ids in (clause.row_ids, clause.col_ids)]
    return relation.IdsClause(kind, clause.row_ids, clause.col_ids, *strides)

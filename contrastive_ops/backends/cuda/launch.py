"""Tensors as addresses, sizes and strides of the CUDA kernels: one method per launch, nothing decided but the path."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from contrastive_ops.backends.base import DTYPE_CODES
from contrastive_ops.backends.gpu.kernels import (
    MAX_STRIPES,
    GradientSum,
    MacroPass,
    MacroTiles,
    Place,
    State,
    Stripes,
)
from contrastive_ops.backends.gpu.view import LineValues, View
from contrastive_ops.reductions import Reduction
from contrastive_ops.relations import Clause
from contrastive_ops.scores import Score, ScoreKind

# From this D on a product is sooner read back than computed again. Keeping one moves 8 bytes to and from memory (16 in
# float64), and in that time tensor cores do 625 multiply-adds on an A100 (2.0 TB/s, 312 TFLOP/s) and 1180 on an H100
# (3.35, 989) if both are at their peaks, the plain units of either 40 to 80. Not yet measured on a GPU.
MIN_KEPT_D_HALF, MIN_KEPT_D = 512, 64
COPY_BYTES = 16  # what the copy engine of sm_90 wants addresses and strides to be multiples of


class CudaKernels:
    """The kernels for one dtype on one device (`Kernels` in `backends/gpu/kernels.py` says what the methods do).
    Gradients take two levels for every D: one main loop serves all products."""

    max_stripes = MAX_STRIPES

    def __init__(self, module: Any, dtype: torch.dtype, stream: int, has_hopper: bool) -> None:
        self.module = module
        self.dtype = DTYPE_CODES[dtype]
        self.stream = stream
        is_half = dtype in (torch.bfloat16, torch.float16)
        self.has_hopper = has_hopper and is_half
        self.min_kept_d = MIN_KEPT_D_HALF if is_half else MIN_KEPT_D

    def keeps_products(self, d: int) -> bool:
        return d >= self.min_kept_d

    def score_tile(self, view: View, self_similarity: bool, keeps: bool) -> tuple[int, int]:
        return self._tile(self._score_path(view), view)

    def macro_tiles(self, view: View, is_kept: bool) -> MacroTiles:
        scores = self._tile(self.module.Path.PORTABLE if is_kept else self._score_path(view), view)
        return MacroTiles(scores, self.module.product_tile(self._product_path(view), self.dtype))

    def reduce(
        self,
        view: View,
        stripes: Stripes,
        rows: tuple[State, ...],
        columns: tuple[State, ...],
        kept: Tensor | None,
        self_similarity: bool,
    ) -> None:
        self.module.reduce_fwd(
            self._score_path(view),
            self._matrix(view),
            rows=[_addresses(state) for state in rows],
            cols=[_addresses(state) for state in columns],
            kept=_address(kept),
            **stripes._asdict(),
            self_similarity=self_similarity,
            stream=self.stream,
        )

    def merge(self, view: View, states: tuple[State, ...], results: list[Tensor | None]) -> None:
        wanted = [
            (reduction, state, result)
            for reduction, state, result in zip(view.problem.reductions, states, results, strict=True)
            if result is not None
        ]
        slots, batch, size = wanted[0][1][0].shape
        self.module.merge_slots(
            dtype=self.dtype,
            reductions=[
                (int(reduction.kind), _addresses(state), result.data_ptr()) for reduction, state, result in wanted
            ],
            size=batch * size,
            num_slots=slots,
            stream=self.stream,
        )

    def macro_pass(self, view: View, work: MacroPass) -> None:
        bank_stride, stride = (0, 0) if work.weights is None else work.weights.stride()[:2]
        self.module.macro_pass_bwd(
            (self._score_path(view), self._product_path(view)),
            self._matrix(view),
            blocks=list(map(_block, work.places)),
            self_similarity=work.self_similarity,
            kept=_address(work.kept),
            weights=_address(work.weights),
            weights_bank_stride=bank_stride,
            weights_stride=stride,
            lines=_addresses(work.lines),
            parts=_addresses(work.parts),
            d_scale=_address(work.d_scale),
            terms_per_entry=0 if work.d_scale is None else work.d_scale.shape[1],
            rows=_gradient(work.queries),
            cols=_gradient(work.keys),
            stream=self.stream,
        )

    def _score_path(self, view: View) -> Any:
        """The volume score has one set of kernels, the portable ones."""
        is_dot = view.problem.score.kind is ScoreKind.DOT
        return self._hopper_if(self.has_hopper and is_dot and all(map(_is_aligned, _sides(view))))

    def _product_path(self, view: View) -> Any:
        """The same of the products that read one entry and bank of a side after another, beside the workspace: both of
        a macro-block are one launch."""
        return self._hopper_if(self.has_hopper and all(map(_has_aligned_entries, _sides(view))))

    def _hopper_if(self, condition: bool) -> Any:
        """Where the copy engine can read the operands, the kernels that use it."""
        return self.module.Path.HOPPER if condition else self.module.Path.PORTABLE

    def _tile(self, path: Any, view: View) -> tuple[int, int]:
        tile: tuple[int, int] = self.module.score_tile(path, self.dtype, int(view.problem.score.kind))
        return tile

    def _matrix(self, view: View) -> Any:
        batch, *_, d = view.sizes
        reductions = view.problem.reductions
        none = (LineValues(),) * len(reductions)  # of the score pass
        return self.module.Matrix(
            dtype=self.dtype,
            batch=batch,
            d=d,
            rows=_side(view.problem.rows.vectors),
            cols=_side(view.problem.cols.vectors),
            row_bias=_address(view.problem.rows.bias),
            col_bias=_address(view.problem.cols.bias),
            scale=view.scale.data_ptr(),
            unit=_address(view.unit),
            score=_score(view.problem.score),
            banks=_banks(view),
            reductions=list(map(_reduction, reductions, view.rows or none, view.cols or none)),
        )


def _reduction(reduction: Reduction, rows: LineValues, cols: LineValues) -> tuple[Any, ...]:
    assert not isinstance(reduction.factor, float)  # a tensor, once checked
    return (
        int(reduction.kind),
        [_clause(clause) for clause in reduction.relation.clauses],
        _address(reduction.factor),
        _addresses((reduction.row_values, *rows)),
        _addresses((reduction.col_values, *cols)),
    )


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _addresses(tensors: Iterable[Tensor | None]) -> list[int]:
    return [_address(tensor) for tensor in tensors]


def _sides(view: View) -> tuple[Tensor, Tensor]:
    """`[B, K, n, D]`: of the rows K is 1. Not cut any further: views take as long as launches."""
    return view.problem.rows.vectors, view.problem.cols.vectors


def _side(vectors: Tensor) -> tuple[int, int, int, int]:
    """Its first bank."""
    return vectors.data_ptr(), vectors.shape[2], _batch_stride(vectors), vectors.stride(2)


def _score(score: Score) -> tuple[int, int, int, int, bool]:
    terms = (score.row_term, score.col_term, score.mixing)
    return int(score.kind), *map(_address, terms), score.absolute  # type: ignore[return-value]


def _banks(view: View) -> tuple[int, int]:
    """How many, and from one to the next."""
    count = view.num_banks
    return count, view.col_vectors.stride(1) if count > 1 else 0


def _block(place: Place) -> tuple[int, int, int, int, int]:
    rows, cols, _, first_term = place
    return rows.start, cols.start, rows.stop - rows.start, cols.stop - cols.start, first_term


def _gradient(of: GradientSum | None) -> tuple[int, int, int]:
    return (0, 0, 0) if of is None else (of.sum.data_ptr(), of.gradient.data_ptr(), DTYPE_CODES[of.gradient.dtype])


def _clause(clause: Clause) -> tuple[int, int, int, int, int, int]:
    row_stride, col_stride = (0 if ids is None else _batch_stride(ids) for ids in (clause.row_ids, clause.col_ids))
    return int(clause.kind), clause.offset, _address(clause.row_ids), _address(clause.col_ids), row_stride, col_stride


def _batch_stride(values: Tensor) -> int:
    return values.stride(0) if values.shape[0] > 1 else 0


def _has_aligned_entries(values: Tensor) -> bool:
    strides = [stride for stride, size in zip(values.stride()[:-2], values.shape, strict=False) if size > 1]
    return values.stride(-2) >= values.shape[-1] and all(
        number % COPY_BYTES == 0
        for number in (values.data_ptr(), *(x * values.itemsize for x in (*strides, values.stride(-2))))
    )


def _is_aligned(vectors: Tensor) -> bool:
    """Of one bank."""
    strides = (_batch_stride(vectors), vectors.stride(2))
    bytes_apart = (vectors.data_ptr(), *(stride * vectors.itemsize for stride in strides))
    # it knows no line that is used twice (stride 0), and no batch entries between the lines of others
    in_order = strides[1] >= vectors.shape[3] and strides[0] % strides[1] == 0
    return in_order and all(number % COPY_BYTES == 0 for number in bytes_apart)

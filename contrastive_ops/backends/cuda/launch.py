"""Tensors as addresses, sizes and strides of the CUDA kernels: one method per launch, nothing decided but the path."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from contrastive_ops.backends.base import DTYPE_CODES
from contrastive_ops.backends.gpu.kernels import MAX_STRIPES, LineSums, MacroBlock, Partials, Stripes, ceil_div
from contrastive_ops.backends.gpu.view import Lines, Side, View
from contrastive_ops.relations import Clause
from contrastive_ops.scores import Score, ScoreKind

# From this D on a product is sooner read back than computed again. Keeping one moves 8 bytes to and from memory (16 in
# float64), and in that time tensor cores do 625 multiply-adds on an A100 (2.0 TB/s, 312 TFLOP/s) and 1180 on an H100
# (3.35, 989) if both are at their peaks, the plain units of either 40 to 80. Not yet measured on a GPU.
MIN_KEPT_D_HALF, MIN_KEPT_D = 512, 64
COPY_BYTES = 16  # what the copy engine of sm_90 wants addresses and strides to be multiples of


class CudaKernels:
    """The kernels for one dtype on one device (`Kernels` in `backends/gpu/kernels.py` says what the methods do)."""

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

    def owns_rows(self, d: int) -> bool:
        return False  # two levels for every D: one main loop serves all products

    def score_tile(self, view: View, self_similarity: bool, keeps: bool) -> tuple[int, int]:
        return self._tile(self._score_path(view), view)

    def macro_grid(self, view: View, rows: int, cols: int, is_kept: bool) -> tuple[int, int]:
        block_m, block_n = self._tile(self.module.Path.PORTABLE if is_kept else self._score_path(view), view)
        return ceil_div(rows, block_m), ceil_div(cols, block_n)

    def statistics(
        self,
        view: View,
        stripes: Stripes,
        rows: Partials,
        columns: Partials,
        kept: Tensor | None,
        self_similarity: bool,
    ) -> None:
        self.module.statistics_fwd(
            self._score_path(view),
            self._matrix(view),
            rows=_addresses(rows),
            cols=_addresses(columns),
            kept=_address(kept),
            **stripes._asdict(),
            self_similarity=self_similarity,
            stream=self.stream,
        )

    def merge(self, partials: Partials, lse: Tensor, positive_sum: Tensor | None) -> None:
        assert partials.top is not None
        self.module.merge_partials(
            dtype=self.dtype,
            partials=_addresses(partials),
            lse=lse.data_ptr(),
            positive_sum=_address(positive_sum),
            size=lse.numel(),
            num_slots=partials.top.shape[0],
            stream=self.stream,
        )

    def gradient(self, view: View, d_rows: Tensor | None, d_bias: Tensor | None, d_scale: Tensor | None) -> None:
        assert d_rows is None
        self.module.line_sums_bwd(
            self._score_path(view),
            self._matrix(view),
            d_bias=_address(d_bias),
            d_scale=_address(d_scale),
            stream=self.stream,
        )

    def macro_gradient(self, view: View, block: MacroBlock) -> None:
        bank_stride, stride = (0, 0) if block.weights is None else block.weights.stride()[:2]
        self.module.macro_gradient_bwd(
            self._score_path(view),
            self._matrix(view),
            kept=_address(block.kept),
            weights=_address(block.weights),
            weights_bank_stride=bank_stride,
            weights_stride=stride,
            sums=_addresses(block.sums),
            d_scale=_address(block.d_scale),
            d_scale_weight=block.d_scale_weight,
            first_row=block.rows.start,
            first_col=block.cols.start,
            block_rows=block.rows.stop - block.rows.start,
            block_cols=block.cols.stop - block.cols.start,
            stream=self.stream,
        )

    def macro_product(self, weights: Tensor, other: Tensor, gradient: Tensor, transposed: bool) -> None:
        depth, d = other.shape
        self.module.macro_product_bwd(
            self._path(weights.unsqueeze(0), other.unsqueeze(0)),
            dtype=self.dtype,
            weights=weights.data_ptr(),
            weights_stride=weights.stride(0),
            other=other.data_ptr(),
            other_stride=other.stride(0),
            gradient=gradient.data_ptr(),
            size=gradient.shape[0],
            depth=depth,
            d=d,
            transposed=transposed,
            stream=self.stream,
        )

    def _score_path(self, view: View) -> Any:
        """The volume score has one set of kernels, the portable ones."""
        is_dot = view.score.kind is ScoreKind.DOT
        return self._path(view.rows.embeddings, view.cols.embeddings) if is_dot else self.module.Path.PORTABLE

    def _path(self, *operands: Tensor) -> Any:
        """Where the copy engine can read all of them, the kernels that use it."""
        use_hopper = self.has_hopper and all(map(_is_aligned, operands))
        return self.module.Path.HOPPER if use_hopper else self.module.Path.PORTABLE

    def _tile(self, path: Any, view: View) -> tuple[int, int]:
        tile: tuple[int, int] = self.module.score_tile(path, self.dtype, int(view.score.kind))
        return tile

    def _matrix(self, view: View) -> Any:
        batch, *_, d = view.sizes
        return self.module.Matrix(
            dtype=self.dtype,
            batch=batch,
            d=d,
            rows=_side(view.rows.banks[0]),
            cols=_side(view.cols.banks[0]),
            row_lines=_addresses(view.rows.lines),
            col_lines=_addresses(view.cols.lines),
            candidates=list(map(_clause, view.candidates)),
            positives=list(map(_clause, view.positives)),
            scale=view.scale.data_ptr(),
            unit=_address(view.unit),
            score=_score(view.score),
            banks=_banks(view.cols),
        )


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _addresses(tensors: Lines | Partials | LineSums) -> list[int]:
    return [_address(tensor) for tensor in tensors]


def _side(values: Tensor) -> tuple[int, int, int, int]:
    return values.data_ptr(), values.shape[1], _batch_stride(values), values.stride(1)


def _score(score: Score) -> tuple[int, int, int, int, bool]:
    terms = (score.row_term, score.col_term, score.mixing)
    return int(score.kind), *map(_address, terms), score.absolute  # type: ignore[return-value]


def _banks(side: Side) -> tuple[int, int]:
    """How many, and from one to the next."""
    count = len(side.banks)
    return count, side.embeddings.stride(1) if count > 1 else 0


def _clause(clause: Clause) -> tuple[int, int, int, int, int, int]:
    row_stride, col_stride = (0 if ids is None else _batch_stride(ids) for ids in (clause.row_ids, clause.col_ids))
    return int(clause.kind), clause.offset, _address(clause.row_ids), _address(clause.col_ids), row_stride, col_stride


def _batch_stride(values: Tensor) -> int:
    return values.stride(0) if values.shape[0] > 1 else 0


def _is_aligned(values: Tensor) -> bool:
    strides = (_batch_stride(values), values.stride(1))
    bytes_apart = (values.data_ptr(), *(stride * values.itemsize for stride in strides))
    # it knows no line that is used twice (stride 0), and no batch entries between the lines of others
    in_order = values.stride(1) >= values.shape[2] and strides[0] % values.stride(1) == 0
    return in_order and all(number % COPY_BYTES == 0 for number in bytes_apart)

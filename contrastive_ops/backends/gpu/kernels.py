"""What a set of GPU kernels offers to the passes, and how the score pass is cut among its programs."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor

from contrastive_ops.backends.gpu.view import View

MACRO_BYTES = 16 * 1024 * 1024  # a macro-block of dS: less than half of the second-level cache of every GPU listed
MAX_STRIPES = 32  # of rows and of columns in the score pass: 1024 programs, and partials of 256 bytes a line
MACRO_ROWS = 2048  # and 4096 columns in half precision: enough programs for all products of a block


class Partials(NamedTuple):
    """Statistics of parts of a line: one slot per stripe, `[slots, B, size]`, statistics dtype; None: not wanted."""

    top: Tensor | None  # largest score over the candidates seen
    total: Tensor | None  # sum of exp(score - top)
    positive: Tensor | None  # sum of the positives' scores; zeros before the score pass: most tiles add nothing


class Stripes(NamedTuple):
    """How the score pass cuts the matrix: a program takes one stripe of rows times one of columns."""

    row_stripe: int  # rows, a multiple of the tile's
    col_stripe: int
    num_row_stripes: int
    num_col_stripes: int


class MacroBlock(NamedTuple):
    """The pairs `rows` x `cols` of one batch entry, and where their part of the gradient goes."""

    rows: slice
    cols: slice
    ds: Tensor  # [rows, cols] of the workspace, dtype of the embeddings
    kept: Tensor | None  # [M, N]: <q_i, k_j> from the score pass, which spare the product
    d_scale: Tensor | None  # [programs]: partial sums of dS_ij <q_i, k_j>
    d_scale_weight: float  # what a pair of this block counts in d_scale


class Kernels(Protocol):
    """Kernels for one dtype on one architecture. A method puts one launch on the stream and returns."""

    max_stripes: int  # of rows and of columns in the score pass; results do not depend on the GPU

    def score_tile(self, view: View, self_similarity: bool, keeps: bool) -> tuple[int, int]:
        """Rows and columns of a tile of the score pass, which may keep products; squares in self-similarity."""

    def owns_rows(self, d: int) -> bool:
        """Whether `gradient` takes `d_rows` for this D; else embeddings' gradients take two levels."""

    def keeps_products(self, d: int) -> bool:
        """Whether reading <q_i, k_j> back costs less than computing it again; then `statistics` and `macro_gradient`
        take `kept`."""

    def macro_grid(self, view: View, rows: int, cols: int, is_kept: bool) -> tuple[int, int]:
        """Programs of `macro_gradient` for a block of this size: each leaves one number in `d_scale`."""

    def statistics(
        self,
        view: View,
        stripes: Stripes,
        rows: Partials,
        columns: Partials,
        kept: Tensor | None,
        self_similarity: bool,
    ) -> None:
        """The score pass. `rows` has a slot for every stripe of columns, `columns` one for every stripe of rows; in
        self-similarity both are one, with a slot more. `kept [B, M, N]` receives <q_i, k_j>."""

    def merge(self, partials: Partials, lse: Tensor, positive_sum: Tensor | None) -> None:
        """Partials `[slots, B, size]` to `lse [B, size]`."""

    def gradient(self, view: View, d_rows: Tensor | None, d_bias: Tensor | None, d_scale: Tensor | None) -> None:
        """The rows' gradients in one kernel: d_rows_i = scale * sum_j dS_ij k_j (only if `owns_rows`),
        d_bias_i = sum_j dS_ij, d_scale_i = sum_j dS_ij <q_i, k_j>."""

    def macro_gradient(self, view: View, block: MacroBlock) -> None:
        """unit * dS of the block, of a view of one batch entry."""

    def macro_product(self, ds: Tensor, other: Tensor, gradient: Tensor, transposed: bool) -> None:
        """gradient `[lines, D]` += dS other, or dS^T other, with `other [depth, D]` and dS a view of its workspace."""


def plan_stripes(view: View, kernels: Kernels, self_similarity: bool, keeps: bool = False) -> Stripes:
    _, m, n, _ = view.sizes
    block_m, block_n = kernels.score_tile(view, self_similarity, keeps)
    row_stripe = ceil_div(ceil_div(m, block_m), kernels.max_stripes) * block_m
    col_stripe = ceil_div(ceil_div(n, block_n), kernels.max_stripes) * block_n
    return Stripes(row_stripe, col_stripe, ceil_div(m, row_stripe), ceil_div(n, col_stripe))


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)

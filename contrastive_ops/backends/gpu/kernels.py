"""What a set of GPU kernels offers to the passes, and how the score pass is cut among its programs."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor

from contrastive_ops.backends.gpu.view import View

MACRO_BYTES = 16 * 1024 * 1024  # weights of a macro-block: less than half of the second-level cache of every GPU listed
MAX_STRIPES = 32  # of rows and of columns in the score pass: 1024 programs, and partials of 256 bytes a line
MACRO_ROWS = 2048  # and 4096 columns in half precision with one bank: enough programs for all products of a block


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


class LineSums(NamedTuple):
    """Sums over the pairs of a macro-block along its lines, statistics dtype; None: not wanted.

    A tile leaves its part in its own slot, contiguous `[tiles across the columns, rows]` for rows and `[tiles down the
    rows, columns]` for columns (`Kernels.macro_grid`), and every number of a slot is written. They have the factor
    `unit`, not yet the factor `scale`.
    """

    row_bias: Tensor | None = None  # sum_j dS_ij
    col_bias: Tensor | None = None  # sum_i dS_ij
    row_term: Tensor | None = None  # sum_j dS_ij d score_ij / d row_term_i
    col_term: Tensor | None = None  # sum_i dS_ij d score_ij / d col_term_j


class MacroBlock(NamedTuple):
    """The pairs `rows` x `cols` of one batch entry, and where their part of the gradient goes."""

    rows: slice
    cols: slice
    # [K, rows, cols] of the workspace, dtype of the embeddings: weights^s_ij = unit * dS_ij d score_ij / d <q_i, k^s_j>
    weights: Tensor | None
    kept: Tensor | None  # [M, N]: <q_i, k_j> from the score pass, which spare the product
    d_scale: Tensor | None  # [programs]: partial sums of dS_ij score_ij
    d_scale_weight: float  # what a pair of this block counts in d_scale
    sums: LineSums  # of inner products none: their biases' gradients come from `Kernels.gradient`


class Kernels(Protocol):
    """Kernels for one dtype on one architecture. A method puts one launch on the stream and returns.

    A score is made from K products of the rows with the banks of the columns (`view.cols.banks`) and the terms of
    `view.score`; inner products have one bank and no terms. Other scores ask `statistics`, `macro_gradient` and
    `macro_product` only, without `kept`, and their blocks have no weights where no embeddings' gradient is wanted.
    """

    max_stripes: int  # of rows and of columns in the score pass; results do not depend on the GPU

    def score_tile(self, view: View, self_similarity: bool, keeps: bool) -> tuple[int, int]:
        """Rows and columns of a tile of the score pass, which may keep products; squares in self-similarity."""

    def owns_rows(self, d: int) -> bool:
        """Whether `gradient` takes `d_rows` for this D; else embeddings' gradients take two levels."""

    def keeps_products(self, d: int) -> bool:
        """Whether reading <q_i, k_j> back costs less than computing it again; then `statistics` and `macro_gradient`
        take `kept`. Asked of inner products."""

    def macro_grid(self, view: View, rows: int, cols: int, is_kept: bool) -> tuple[int, int]:
        """Tiles down the rows and across the columns of `macro_gradient` for a block of this size: each leaves one
        number in `d_scale`, in row-major order, and its part of the lines' sums in a slot."""

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
        d_bias_i = sum_j dS_ij, d_scale_i = sum_j dS_ij <q_i, k_j>. Of inner products only."""

    def macro_gradient(self, view: View, block: MacroBlock) -> None:
        """The weights of the block's products and its lines' sums, of a view of one batch entry."""

    def macro_product(self, weights: Tensor, other: Tensor, gradient: Tensor, transposed: bool) -> None:
        """gradient `[lines, D]` += weights other, or weights^T other, with `other [depth, D]` and the weights of one
        bank, a view of their workspace."""


def plan_stripes(view: View, kernels: Kernels, self_similarity: bool, keeps: bool = False) -> Stripes:
    _, m, n, _ = view.sizes
    block_m, block_n = kernels.score_tile(view, self_similarity, keeps)
    row_stripe = ceil_div(ceil_div(m, block_m), kernels.max_stripes) * block_m
    col_stripe = ceil_div(ceil_div(n, block_n), kernels.max_stripes) * block_n
    return Stripes(row_stripe, col_stripe, ceil_div(m, row_stripe), ceil_div(n, col_stripe))


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)

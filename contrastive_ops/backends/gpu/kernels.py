"""What a set of GPU kernels offers to the passes, and how the score pass is cut among its programs."""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypeGuard

from torch import Tensor

from contrastive_ops.backends.gpu.view import View

MAX_STRIPES = 32  # of rows and of columns in the score pass: 1024 programs, and partials of 256 bytes a line


State = tuple[Tensor, ...]  # of a reduction, `[slots, B, size]` each: its numbers over parts of a line; (): not wanted


class Stripes(NamedTuple):
    """How the score pass cuts the matrix: a program takes one stripe of rows times one of columns."""

    row_stripe: int  # rows, a multiple of the tile's
    col_stripe: int
    num_row_stripes: int
    num_col_stripes: int


class LineSums(NamedTuple):
    """Sums over pairs along the lines, statistics dtype; None: not wanted.

    In a macro-block a tile leaves its part in its own slot, contiguous `[tiles across the columns, rows]` for rows and
    `[tiles down the rows, columns]` for columns, and every number of a slot is written. These parts have the factor
    `unit`, not yet the factor `scale`.
    """

    row_bias: Tensor | None = None  # sum_j dS_ij
    col_bias: Tensor | None = None  # sum_i dS_ij
    row_term: Tensor | None = None  # sum_j dS_ij d score_ij / d row_term_i
    col_term: Tensor | None = None  # sum_i dS_ij d score_ij / d col_term_j


class MacroTiles(NamedTuple):
    """What one program of each launch of a macro-block takes."""

    scores: tuple[int, int]  # rows, columns of the block
    products: tuple[int, int, int]  # lines and columns of a gradient, lines of the other side in a step


class Place(NamedTuple):
    """A macro-block of the score matrix of every batch entry."""

    rows: slice
    cols: slice
    grid: tuple[int, int]  # its tiles of scores
    first_term: int  # where its numbers start among those of an entry in `d_scale`


class GradientSum(NamedTuple):
    """The gradient of one side's embeddings, `[B, size, D]` or `[B, K, size, D]`, contiguous."""

    sum: Tensor  # statistics dtype; over the blocks, with the factor `unit` and not yet the factor `scale`
    gradient: Tensor  # what it becomes, in its own dtype; may be `sum`


class MacroPass(NamedTuple):
    """A gradient pass in two levels: its blocks, and the memory that it fills, uninitialised; None: not wanted.

    weights^s_ij = unit * dS_ij d score_ij / d <q_i, k^s_j>
    """

    places: list[Place]  # in the order of the sums
    self_similarity: bool  # on and above the diagonal, dS of both roles of a pair: those below are mirror images
    kept: Tensor | None  # [B, M, N]: <q_i, k_j> from the score pass, which spare the product
    weights: Tensor | None  # workspace of one block, [K, height, width], dtype of the embeddings
    d_scale: Tensor | None  # [B, numbers of an entry]
    queries: GradientSum | None
    keys: GradientSum | None
    lines: LineSums  # [B, M] and [B, N], over all blocks and without the factor `unit`
    parts: LineSums  # workspace of one block


class Kernels(Protocol):
    """Kernels for one dtype on one architecture. A method puts its launches on the stream and returns.

    A score is made from K products of the rows with the banks of the columns (`view.col_vectors`) and the terms of
    `view.problem.score`; inner products have one bank and no terms. Other scores have no `kept`. `macro_pass` has no
    weights where no embeddings' gradient is wanted.
    """

    max_stripes: int  # of rows and of columns in the score pass; results do not depend on the GPU

    def score_tile(self, view: View, self_similarity: bool, keeps: bool) -> tuple[int, int]:
        """Rows and columns of a tile of the score pass, which may keep products; squares in self-similarity."""

    def keeps_products(self, d: int) -> bool:
        """Whether reading <q_i, k_j> back costs less than computing it again; then `reduce` and `macro_pass` take
        `kept`. Asked of inner products."""

    def macro_tiles(self, view: View, is_kept: bool) -> MacroTiles:
        """Of the two launches of a macro-block. Each tile of scores leaves one number in `d_scale`, in row-major order,
        and its part of the lines' sums in a slot."""

    def reduce(
        self,
        view: View,
        stripes: Stripes,
        rows: tuple[State, ...],
        columns: tuple[State, ...],
        kept: Tensor | None,
        self_similarity: bool,
    ) -> None:
        """The score pass, for every reduction of the view. `rows` has a slot for every stripe of columns, `columns` one
        for every stripe of rows; in self-similarity both are one, with a slot more. `kept [B, M, N]` receives
        <q_i, k_j>. All are uninitialised."""

    def merge(self, view: View, states: tuple[State, ...], results: list[Tensor | None]) -> None:
        """For every reduction of the view its state along one axis, `[slots, B, size]`, to the result `[B, size]`, in
        the order of the slots; () and None where it is not wanted."""

    def macro_pass(self, view: View, work: MacroPass) -> None:
        """Block after block of each batch entry, the weights once, then dQ += weights^s K^s and dK^s += weights^s^T Q
        for every bank s; at the end what sums lack of gradients. Of inner products `lines`, and no weights, are asked
        only of kernels that are no `RowKernels`."""


class RowKernels(Kernels, Protocol):
    """Those that have a gradient pass of inner products in one level too, in which a program owns rows."""

    def owns_rows(self, d: int) -> bool:
        """Whether `gradient` takes `d_rows` for this D; else embeddings' gradients take two levels."""

    def gradient(self, view: View, d_rows: Tensor | None, d_bias: Tensor | None, d_scale: Tensor | None) -> None:
        """The rows' gradients in one kernel: d_rows_i = scale * sum_j dS_ij k_j (only if `owns_rows`),
        d_bias_i = sum_j dS_ij, d_scale_i = sum_j dS_ij <q_i, k_j>."""


def are_row_kernels(kernels: Kernels) -> TypeGuard[RowKernels]:
    return hasattr(kernels, "gradient")


def plan_stripes(view: View, kernels: Kernels, self_similarity: bool, keeps: bool = False) -> Stripes:
    _, m, n, _ = view.sizes
    block_m, block_n = kernels.score_tile(view, self_similarity, keeps)
    row_stripe = ceil_div(ceil_div(m, block_m), kernels.max_stripes) * block_m
    col_stripe = ceil_div(ceil_div(n, block_n), kernels.max_stripes) * block_n
    return Stripes(row_stripe, col_stripe, ceil_div(m, row_stripe), ceil_div(n, col_stripe))


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)

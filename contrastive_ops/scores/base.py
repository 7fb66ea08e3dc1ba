"""What a score is made of, and what it may say of itself to the backends."""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar, NamedTuple

from torch import Tensor

from contrastive_ops.leaves import Leaf

MAX_BANKS = 7  # products of one score


class ScoreKind(IntEnum):
    """Order is shared with `enum ScoreKind` in `csrc/types.h`."""

    DOT = 0
    VOLUME = 1


class ScoreGradient(NamedTuple):
    """What a block of dS becomes; the factor `scale` comes in later."""

    weights: Tensor  # [..., P, m, n]: for pair p = (r, c) dQ^r += weights^p K^c, dK^c += weights^p^T Q^r
    row_term: Tensor | None  # [..., m]
    col_term: Tensor | None  # [..., n]


class Score:
    """A number of each pair, made of products <q^r_i, k^c_j> and of a few numbers of its row and its column.

    The methods define it in PyTorch; native backends have the same functor in their own language.
    """

    kind: ClassVar[ScoreKind]
    LEAVES: ClassVar[tuple[tuple[str, Leaf], ...]]  # fields that hold tensors
    has_roles: ClassVar[bool]  # false: score(q, k) is score(k, q), so that either side can own the rows
    # linear in the products: dscale is <Q, dS K>; else in a term of the column: dscale = sum_j col_term_j dcol_term_j
    is_linear_in_products: ClassVar[bool]
    # what the names of kernels start with in tables of tiles, where kernels of this score have rows of their own
    tile_family: ClassVar[str] = ""
    # whether a row (a column) is made of several vectors, so that its embeddings are `[V, n, D]` and not `[n, D]`
    row_items_have_vectors: ClassVar[bool] = False
    col_items_have_vectors: ClassVar[bool] = False
    row_term: Tensor | None
    col_term: Tensor | None
    mixing: Tensor | None
    absolute: bool

    @property
    def word(self) -> str:
        """All of it but tensors, in the form of a problem."""
        raise NotImplementedError

    def pairs(self, row_vectors: int, col_vectors: int) -> tuple[tuple[int, int], ...]:
        """Which vectors of a row and of a column are multiplied."""
        raise NotImplementedError

    def with_leaves(self, *tensors: Tensor) -> Score:
        """The same with other tensors, in the order of `LEAVES`."""
        raise NotImplementedError

    def value(self, products: Tensor) -> Tensor:
        """`[..., m, n]` from the products `[..., P, m, n]`."""
        raise NotImplementedError

    def gradient(self, products: Tensor, ds: Tensor) -> ScoreGradient:
        """From the products `[..., P, m, n]` and dS `[..., m, n]`."""
        raise NotImplementedError

    def largest_weight(self) -> Tensor | None:
        """A bound of |weights_ij / dS_ij|, at least 1, on the device; None for 1."""
        raise NotImplementedError

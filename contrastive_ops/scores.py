"""What number a pair (i, j) has: the inner product, or the volume that an anchor spans with several vectors.

A score is made of K products c^s_ij = <q_i, k^s_j>, one for every bank of keys, and of a few numbers of its row and its
column. The methods here define it in PyTorch; native backends have the same functor in their own language.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import torch
from torch import Tensor

MAX_BANKS = 7


class ScoreKind(IntEnum):
    """Order is shared with `enum ScoreKind` in `csrc/types.h`."""

    DOT = 0
    VOLUME = 1


class ScoreGradient(NamedTuple):
    """What a block of dS becomes; the factor `scale` comes in later."""

    weights: Tensor  # [..., K, m, n]: dQ += sum_s weights^s K^s, dK^s += weights^s^T Q
    row_term: Tensor | None  # [..., m]
    col_term: Tensor | None  # [..., n]


class Score(NamedTuple):
    """DOT: c_ij, without terms.

    VOLUME: col_term_j * rho_ij, where rho_ij is the distance of query i from the span of the vectors of column j:

        d^r_ij   = sum_{s <= r} mixing^{rs}_j c^s_ij
        rho_ij^2 = row_term_i - sum_r (d^r_ij)^2           rounding may leave it below 0: 0, or its absolute value
    """

    kind: ScoreKind = ScoreKind.DOT
    row_term: Tensor | None = None  # [B, M] |q_i|^2, statistics dtype
    col_term: Tensor | None = None  # [B, N] volume of the vectors of column j, >= 0
    mixing: Tensor | None = None  # [B, K(K+1)/2, N], rows of a lower triangle one after another; a constant
    absolute: bool = False

    @property
    def terms(self) -> tuple[Tensor, Tensor, Tensor]:
        """(row_term, col_term, mixing) of a volume."""
        assert self.row_term is not None and self.col_term is not None and self.mixing is not None
        return self.row_term, self.col_term, self.mixing

    def block(self, b: int, rows: slice, cols: slice) -> Score:
        """The score of a block of one batch entry: terms `[m]` and `[n]`, mixing `[K(K+1)/2, n]`."""
        if self.kind is ScoreKind.DOT:
            return self
        row_term, col_term, mixing = self.terms
        return self._replace(row_term=row_term[b, rows], col_term=col_term[b, cols], mixing=mixing[b, :, cols])

    def value(self, products: Tensor) -> Tensor:
        """`[..., m, n]` from the products `[..., K, m, n]`."""
        if self.kind is ScoreKind.DOT:
            return products.squeeze(-3)
        rho, _ = self._distance(self._mix(products))
        return self.terms[1].unsqueeze(-2) * rho

    def gradient(self, products: Tensor, ds: Tensor) -> ScoreGradient:
        """From the products `[..., K, m, n]` and dS `[..., m, n]`."""
        if self.kind is ScoreKind.DOT:
            return ScoreGradient(ds.unsqueeze(-3), None, None)
        mixed = self._mix(products)
        rho, sign = self._distance(mixed)
        # d rho = (sign / rho) (drow_term / 2 - sum_r d^r dd^r); at rho = 0, where it has no derivative, 0
        per_distance = ds * self.terms[1].unsqueeze(-2) * sign / rho.masked_fill(rho == 0, torch.inf)
        return ScoreGradient(
            weights=self._mix_transposed(-per_distance.unsqueeze(-3) * mixed),
            row_term=per_distance.sum(-1) / 2,
            col_term=(ds * rho).sum(-2),
        )

    def _distance(self, mixed: Tensor) -> tuple[Tensor, Tensor | float]:
        """(rho, the sign of what is under its root), `[..., m, n]`."""
        squared = self.terms[0].unsqueeze(-1) - mixed.square().sum(-3)
        if self.absolute:
            return squared.abs().sqrt(), squared.sign()
        return squared.clamp(min=0).sqrt(), 1.0

    def _mix(self, products: Tensor) -> Tensor:
        """d^r = sum_{s <= r} mixing^{rs} c^s"""
        banks = products.shape[-3]
        return torch.stack(
            [sum(self._coefficient(r, s) * products[..., s, :, :] for s in range(r + 1)) for r in range(banks)],  # type: ignore[misc]
            -3,
        )

    def _mix_transposed(self, weights: Tensor) -> Tensor:
        """sum_{r >= s} mixing^{rs} weights^r"""
        banks = weights.shape[-3]
        return torch.stack(
            [sum(self._coefficient(r, s) * weights[..., r, :, :] for r in range(s, banks)) for s in range(banks)],  # type: ignore[misc]
            -3,
        )

    def _coefficient(self, r: int, s: int) -> Tensor:
        """mixing^{rs}, `[..., 1, n]`."""
        return self.terms[2][..., r * (r + 1) // 2 + s, None, :]


DOT = Score()

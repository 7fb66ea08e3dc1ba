"""The volume that a query spans with the vectors of a column (GRAM)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from contrastive_ops.leaves import Axis, Leaf
from contrastive_ops.scores.base import Score, ScoreGradient, ScoreKind

LARGEST_SLOPE = 2.0**12  # |q_i| over the least distance that float32 tells from 0: |q_i|^2 less its last bit is 0


@dataclass(frozen=True, eq=False)
class VolumeScore(Score):
    """score_ij = col_term_j * rho_ij, where rho_ij is the distance of query i from the span of the vectors of column j:

    d^r_ij   = sum_{s <= r} mixing^{rs}_j <q_i, k^s_j>
    rho_ij^2 = row_term_i - sum_r (d^r_ij)^2           rounding may leave it below 0: 0, or its absolute value
    """

    row_term: Tensor  # [B, M] |q_i|^2, statistics dtype
    col_term: Tensor  # [B, N] volume of the vectors of column j, >= 0
    mixing: Tensor  # [B, K(K+1)/2, N], rows of a lower triangle one after another; a constant
    absolute: bool = False

    LEAVES: ClassVar[tuple[tuple[str, Leaf], ...]] = (
        ("row_term", Leaf(Axis.ROWS, 2, gradient="row_term")),
        ("col_term", Leaf(Axis.COLS, 2, gradient="col_term")),
        ("mixing", Leaf(Axis.COLS, 3)),
    )
    kind: ClassVar[ScoreKind] = ScoreKind.VOLUME
    has_roles: ClassVar[bool] = True
    is_linear_in_products: ClassVar[bool] = False
    tile_family: ClassVar[str] = "volume_"
    col_items_have_vectors: ClassVar[bool] = True

    @property
    def word(self) -> str:
        return "absolute_volume" if self.absolute else "volume"

    def pairs(self, row_vectors: int, col_vectors: int) -> tuple[tuple[int, int], ...]:
        return tuple((0, s) for s in range(col_vectors))

    def with_leaves(self, *tensors: Tensor) -> VolumeScore:
        row_term, col_term, mixing = tensors
        return VolumeScore(row_term, col_term, mixing, self.absolute)

    def value(self, products: Tensor) -> Tensor:
        rho, _ = self._distance(self._mix(products))
        return self.col_term.unsqueeze(-2) * rho

    def gradient(self, products: Tensor, ds: Tensor) -> ScoreGradient:
        mixed = self._mix(products)
        rho, sign = self._distance(mixed)
        # d rho = (sign / rho) (drow_term / 2 - sum_r d^r dd^r); at rho = 0, where it has no derivative, 0
        per_distance = ds * self.col_term.unsqueeze(-2) * sign / rho.masked_fill(rho == 0, torch.inf)
        return ScoreGradient(
            weights=self._mix_transposed(-per_distance.unsqueeze(-3) * mixed),
            row_term=per_distance.sum(-1) / 2,
            col_term=(ds * rho).sum(-2),
        )

    def largest_weight(self) -> Tensor:
        """Of col_term_j |sum_r mixing_j^rs d^r_ij| / rho_ij, where |d_ij| <= |q_i|."""
        # what is NaN makes NaN of its own column's weights, and must not of the others
        by_column = (self.col_term * self.mixing.norm(dim=1)).nan_to_num(0.0, 0.0, 0.0)
        largest: Tensor = by_column.max() * LARGEST_SLOPE
        return largest.clamp(min=1.0)

    def _distance(self, mixed: Tensor) -> tuple[Tensor, Tensor | float]:
        """(rho, the sign of what is under its root), `[..., m, n]`."""
        squared = self.row_term.unsqueeze(-1) - mixed.square().sum(-3)
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
        return self.mixing[..., r * (r + 1) // 2 + s, None, :]

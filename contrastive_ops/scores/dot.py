"""The inner product of the two vectors of a pair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from contrastive_ops.leaves import Leaf
from contrastive_ops.scores.base import Score, ScoreGradient, ScoreKind


@dataclass(frozen=True, eq=False)
class DotScore(Score):
    """score_ij = <q_i, k_j>, without terms."""

    LEAVES: ClassVar[tuple[tuple[str, Leaf], ...]] = ()
    kind: ClassVar[ScoreKind] = ScoreKind.DOT
    has_roles: ClassVar[bool] = False
    is_linear_in_products: ClassVar[bool] = True
    row_term = col_term = mixing = None
    absolute = False

    @property
    def word(self) -> str:
        return "dot"

    def pairs(self, row_vectors: int, col_vectors: int) -> tuple[tuple[int, int], ...]:
        return ((0, 0),)

    def with_leaves(self, *tensors: Tensor) -> DotScore:
        return self

    def value(self, products: Tensor) -> Tensor:
        return products.squeeze(-3)

    def gradient(self, products: Tensor, ds: Tensor) -> ScoreGradient:
        return ScoreGradient(ds.unsqueeze(-3), None, None)

    def largest_weight(self) -> None:
        return None


DOT = DotScore()

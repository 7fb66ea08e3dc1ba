"""The largest score of a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from contrastive_ops.reductions.base import Reduction, ReductionKind


@dataclass(frozen=True, eq=False)
class Largest(Reduction):
    """max_{j: (i, j) in relation} t_ij, and down the columns; -inf for a line without pairs, NaN where it has one.
    Without a gradient."""

    kind: ClassVar[ReductionKind] = ReductionKind.LARGEST
    word: ClassVar[str] = "largest"
    neutral: ClassVar[float] = -torch.inf
    has_slope: ClassVar[bool] = False

    def take(self, scores: Tensor, mask: Tensor | None, dims: Sequence[int], spare: Tensor) -> list[Tensor]:
        if mask is not None:
            scores = spare.copy_(scores).masked_fill_(~mask, -torch.inf)
        return [scores.amax(dim) for dim in dims]

    @staticmethod
    def merge(first: Tensor, second: Tensor) -> Tensor:
        return torch.maximum(first, second)

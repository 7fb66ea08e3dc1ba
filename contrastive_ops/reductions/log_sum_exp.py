"""log sum exp of the scores of a line, and its softmax."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from contrastive_ops.reductions.base import Reduced, Reduction, ReductionKind


@dataclass(frozen=True, eq=False)
class LogSumExp(Reduction):
    """lse_i = log sum_{j: (i, j) in relation} exp(t_ij), and down the columns; -inf for a line without pairs."""

    kind: ClassVar[ReductionKind] = ReductionKind.LOG_SUM_EXP
    word: ClassVar[str] = "log_sum_exp"
    neutral: ClassVar[float] = -torch.inf
    num_states: ClassVar[int] = 2  # the largest score, and the sum of exponentials below it
    slope_has_result: ClassVar[bool] = True
    overwrites: ClassVar[bool] = True

    def take(self, scores: Tensor, mask: Tensor | None, dims: Sequence[int], spare: Tensor) -> list[Tensor]:
        if mask is not None:
            scores.masked_fill_(~mask, -torch.inf)
        return [_log_sum_exp(scores, dim, spare) for dim in dims]

    @staticmethod
    def merge(first: Tensor, second: Tensor) -> Tensor:
        return torch.logaddexp(first, second)

    def slope(self, scores: Tensor, mask: Tensor | None, results: Reduced, upstream: Reduced, spare: Tensor) -> Tensor:
        """g_i exp(t_ij - lse_i) + h_j exp(t_ij - lse_j)"""
        slope = torch.zeros_like(scores)
        for dim, lse, d_lse in ((-1, results.rows, upstream.rows), (-2, results.columns, upstream.columns)):
            if lse is not None and d_lse is not None:
                # -inf (no pairs) becomes +inf: exp(t - lse) is then 0, as the gradient must be
                torch.sub(scores, lse.masked_fill(lse == -torch.inf, torch.inf).unsqueeze(dim), out=spare)
                slope.addcmul_(spare.exp_(), d_lse.unsqueeze(dim))
        return slope if mask is None else slope.masked_fill_(~mask, 0.0)


def _log_sum_exp(scores: Tensor, dim: int, spare: Tensor) -> Tensor:
    """-inf for a line that is all masked, NaN only where the line has one."""
    top = scores.amax(dim, keepdim=True)
    shift = top.masked_fill(top.abs() == torch.inf, 0.0)
    torch.sub(scores, shift, out=spare)
    return spare.exp_().sum(dim).log_() + shift.squeeze(dim)

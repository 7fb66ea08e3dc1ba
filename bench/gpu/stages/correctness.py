"""Values and every gradient against float64 where the tests' matrix, which ends at D = 100, never goes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch

from bench.gpu.case import Case, Row, Setting, Skipped
from bench.gpu.journal import WRONG
from bench.gpu.losses import LOSSES, Leaves, make_leaves, unaligned
from bench.gpu.machine import refusals
from bench.gpu.verdict import VALUE, compare, same_bits, size_of_scale_gradient
from contrastive_ops.problem import statistics_dtype
from contrastive_ops.testing import norm_error

FLOAT64_ROUNDING = 1e-12
KEPT, NOT_KEPT = 1 << 30, 0  # bytes of workspace


class Problem(NamedTuple):
    """A loss of N pairs of D numbers."""

    loss: str
    n: int
    d: int
    workspace_bytes: int
    is_aligned: bool = True

    def rehearsed(self) -> Problem:
        return self._replace(n=min(self.n, 70), d=min(self.d, 24 + self.d % 8))

    def what(self) -> Row:
        rows = "aligned" if self.is_aligned and self.d % 8 == 0 else "unaligned"
        return {"what": self.loss, "n": self.n, "d": self.d, "workspace_bytes": self.workspace_bytes, "rows": rows}


TINY = [
    Problem("clip_loss", 300, 64, KEPT),
    Problem("clip_loss", 300, 65, NOT_KEPT),
    Problem("clip_loss", 130, 512, KEPT),
]
# what the timed steps will compile, so that it is compiled by then
TIMED = {
    "512": [Problem("clip_loss", 300, 512, NOT_KEPT)],
    "768": [Problem("clip_loss", 300, 768, KEPT), Problem("clip_loss", 300, 768, NOT_KEPT)],
    "1024": [Problem("clip_loss", 300, 1024, KEPT), Problem("clip_loss", 300, 1024, NOT_KEPT)],
}
# several macro-blocks where N allows, ragged ends always
LARGE = [
    Problem("clip_loss", 2500, 520, KEPT),
    Problem("clip_loss", 4200, 768, NOT_KEPT),
    Problem("nt_xent", 1500, 640, NOT_KEPT),
    Problem("gram_loss, K = 2", 300, 64, NOT_KEPT),
    Problem("statistics", 2500, 520, NOT_KEPT),
    Problem("clip_loss", 700, 521, KEPT),
    Problem("clip_loss", 2500, 520, NOT_KEPT, is_aligned=False),
    Problem("gram_loss, K = 3", 700, 520, NOT_KEPT),
    Problem("clip_loss", 150, 1536, KEPT),
    Problem("clip_loss", 5000, 1024, KEPT),
    Problem("nt_xent", 1500, 96, NOT_KEPT),
    Problem("info_nce", 3000, 768, KEPT),
    Problem("info_nce", 3000, 256, NOT_KEPT),
    Problem("clip_loss", 4200, 512, NOT_KEPT),
    Problem("statistics", 3000, 96, NOT_KEPT, is_aligned=False),
    Problem("volume_statistics, K = 2", 2500, 96, NOT_KEPT),
    Problem("gram_loss, K = 1", 500, 100, NOT_KEPT, is_aligned=False),
    Problem("gram_loss, K = 7", 200, 72, NOT_KEPT),
]
SETS = {"tiny": TINY, "large": LARGE, **TIMED}


def cases(setting: Setting, backend: str, dtype: str, of: str = "large") -> list[Case]:
    problems = [setting.choose(problem, problem.rehearsed()) for problem in SETS[of]]
    return [
        Case(
            {**problem.what(), "dtype": dtype, "backend": backend},
            partial(_check, setting, backend, getattr(torch, dtype), problem),
        )
        for problem in problems
    ]


def _check(setting: Setting, backend: str, dtype: torch.dtype, problem: Problem) -> Row:
    """Errors of value and gradients beside those of the dense formula in the statistics dtype plus the tolerance; and
    whether a second run gives the same bits."""
    if reasons := refusals(backend, setting.device):
        raise Skipped("; ".join(reasons))
    loss = LOSSES[problem.loss]
    leaves = make_leaves(loss, problem.n, problem.d, dtype, setting.device)
    if not problem.is_aligned:
        leaves = unaligned(leaves)

    def ours(x: Leaves) -> torch.Tensor:
        return loss.ours(x, backend=backend, workspace_bytes=problem.workspace_bytes)

    first, second = (_results(ours, leaves) for _ in range(2))
    truth = _results(loss.dense, _cast(leaves, torch.float64))
    plain = _results(loss.dense, _cast(leaves, statistics_dtype(dtype)))
    numbers = [name for name, leaf in leaves.items() if leaf.dim() == 0]
    rows = next(iter(leaves))
    terms = {f"d_{name}": size_of_scale_gradient(leaves[rows], truth[f"d_{rows}"], leaves[name]) for name in numbers}
    allowed = {key: norm_error(plain[key], true, terms.get(key)) for key, true in truth.items()}
    # the error of one number is a single draw; the same rounded scores show in all gradients of the dense formula
    worst = max(error for key, error in allowed.items() if key != VALUE)
    allowed |= dict.fromkeys(terms, worst)
    if dtype == torch.float64:  # both sides round, over thousands of terms
        allowed = {key: max(error, FLOAT64_ROUNDING) for key, error in allowed.items()}
    row = compare(first, truth, backend, allowed, terms)
    is_repeatable = all(same_bits(first[key], second[key]) for key in first)
    return row | {"same_bits_again": is_repeatable} | ({} if is_repeatable else {"verdict": WRONG})


def _results(loss: Callable[[Leaves], torch.Tensor], leaves: Leaves) -> dict[str, torch.Tensor]:
    value = loss(leaves)
    gradients = torch.autograd.grad(value, list(leaves.values()))
    return {VALUE: value.detach(), **{f"d_{name}": x for name, x in zip(leaves, gradients, strict=True)}}


def _cast(leaves: Leaves, dtype: torch.dtype) -> Leaves:
    """The same rounded numbers."""
    return {name: leaf.detach().to(dtype).requires_grad_() for name, leaf in leaves.items()}

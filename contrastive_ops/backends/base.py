"""What every backend offers: reasons why it cannot, the size of its state, forward and backward."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from contrastive_ops.leaves import Leaf
from contrastive_ops.problem import Gradients, Problem, Results
from contrastive_ops.reductions import ReductionKind

# order shared with `enum DType` in `csrc/types.h`
DTYPE_CODES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}

# what the results of some rows add to a total, and the gradients of that in them
Outer = Callable[[Results], tuple[Tensor, Results]]


class Wanted(NamedTuple):
    """Which gradients to compute; the others are skipped."""

    queries: bool = False
    keys: bool = False
    scale: bool = False
    row_bias: bool = False
    col_bias: bool = False
    row_term: bool = False
    col_term: bool = False
    dtype: torch.dtype | None = None  # of the embeddings' gradients: that of the embeddings, or the statistics dtype

    @classmethod
    def of(cls, leaves: Iterable[Leaf], dtype: torch.dtype | None = None) -> Wanted:
        """The gradients of these leaves."""
        names = {leaf.gradient for leaf in leaves}
        return cls._make([*[name in names for name in Gradients._fields], dtype])

    def transposed(self) -> Wanted:
        """Of the transposed problem, which has no terms."""
        return self._replace(queries=self.keys, keys=self.queries, row_bias=self.col_bias, col_bias=self.row_bias)


def missing_reductions(problem: Problem, kinds: Collection[ReductionKind]) -> list[str]:
    """Why kernels that have these kinds alone cannot solve the problem; empty if they can."""
    words = [reduction.word for reduction in problem.reductions if reduction.kind not in kinds]
    return [f"its kernels have no reduction {', '.join(words)}"] if words else []


class Backend(Protocol):
    """Stateless; one module-level instance per backend."""

    name: str
    summary: str  # one line for the support table

    def missing(self) -> str | None:
        """What this backend lacks on this machine for any problem, and the remedy; None if nothing."""

    def reasons(self, problem: Problem) -> list[str]:
        """Why this backend cannot solve the problem, what is `missing` first; empty if it can. Looks at metadata
        only."""

    def state_bytes(self, problem: Problem) -> int:
        """Bytes that forward keeps for backward, besides inputs and results."""

    def forward(self, problem: Problem) -> tuple[Results, Tensor | None]:
        """The results and the state (uint8, `state_bytes` long; None stands for an empty one)."""

    def backward(
        self, problem: Problem, results: Results, upstream: Results, state: Tensor, wanted: Wanted
    ) -> Gradients:
        """Gradients for upstream gradients of the results (None stands for zero)."""

    def total_and_gradients(self, problem: Problem, outer: Outer, wanted: Wanted) -> tuple[Tensor, Gradients]:
        """The total over all rows of what `outer` makes of their results, and its gradients. Rows may come in panels
        (`backends/panels.py`)."""

"""Items of several vectors on both sides: what a score of pairs of vectors costs is a file for the score, no more."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from contrastive_ops import LogSumExp, ScoreSum, diagonal, off_diagonal
from contrastive_ops.backends import BACKENDS, Wanted
from contrastive_ops.problem import Problem, Side
from contrastive_ops.reductions import Reduced
from contrastive_ops.scores import DOT, Score, ScoreGradient

M, N, D = 23, 31, 6


@dataclass(frozen=True, eq=False)
class SumOfDots(Score):
    """score_ij = <q^0_i, k^0_j> + <q^1_i, k^1_j>: the inner product of what lies one after another."""

    LEAVES: ClassVar = ()
    has_roles: ClassVar[bool] = False
    is_linear_in_products: ClassVar[bool] = True
    row_items_have_vectors: ClassVar[bool] = True
    col_items_have_vectors: ClassVar[bool] = True
    kind: ClassVar = None
    row_term = col_term = mixing = None
    absolute = False

    def pairs(self, row_vectors: int, col_vectors: int) -> tuple[tuple[int, int], ...]:
        return ((0, 0), (1, 1))

    def with_leaves(self, *tensors: Tensor) -> Score:
        return self

    def value(self, products: Tensor) -> Tensor:
        return products.sum(-3)

    def gradient(self, products: Tensor, ds: Tensor) -> ScoreGradient:
        return ScoreGradient(torch.stack((ds, ds), -3), None, None)

    def largest_weight(self) -> None:
        return None


def problem(rows, cols, score):
    """A problem as backends see it; rows and cols `[B, V, n, D]`."""
    reductions = (LogSumExp(off_diagonal(), columns=True), ScoreSum(diagonal()))
    return Problem(Side(rows), Side(cols), torch.tensor(0.7, dtype=rows.dtype), score, reductions)


@pytest.mark.parametrize("name", ["reference", "eager"])
@pytest.mark.parametrize("batch", [1, 3])
def test_vectors_side_by_side_are_one_long_vector(name, batch):
    rows, cols = (torch.randn(batch, 2, n, D, dtype=torch.float64) for n in (M, N))
    several = problem(rows, cols, SumOfDots())
    together = problem(*(x.transpose(1, 2).flatten(2).unsqueeze(1) for x in (rows, cols)), DOT)
    backend, wanted = BACKENDS[name], Wanted(queries=True, keys=True, scale=True)
    found, expected = (backend.forward(each)[0] for each in (several, together))
    for ours, truth in zip(found, expected, strict=True):
        torch.testing.assert_close([x for x in ours if x is not None], [x for x in truth if x is not None])
    upstream = tuple(Reduced(*(None if x is None else torch.rand_like(x) for x in each)) for each in expected)
    state = torch.empty(0, dtype=torch.uint8)
    ours, truth = (backend.backward(each, expected, upstream, state, wanted) for each in (several, together))
    torch.testing.assert_close(ours.scale, truth.scale)
    for gradient, flat in ((ours.queries, truth.queries), (ours.keys, truth.keys)):
        torch.testing.assert_close(gradient.transpose(1, 2).flatten(2).unsqueeze(1), flat)


def test_lines_and_entries_are_cut_whatever_they_hold():
    rows, cols = (torch.randn(3, 2, n, D, dtype=torch.float64) for n in (M, N))
    whole, backend = problem(rows, cols, SumOfDots()), BACKENDS["reference"]
    part = whole.select(slice(4, 15), slice(2, 20), slice(1, 3))
    assert part.sizes == (2, 11, 18, D)
    own = problem(rows[1:, :, 4:15], cols[1:, :, 2:20], SumOfDots())
    own = own._replace(reductions=(LogSumExp(off_diagonal(2), columns=True), ScoreSum(diagonal(2))))
    for first, second in zip(backend.forward(part)[0], backend.forward(own)[0], strict=True):
        assert torch.equal(first.rows, second.rows)

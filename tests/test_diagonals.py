"""Diagonals that touch a tile in its corner alone: whether a tile needs a relation is asked before its pairs are."""

import pytest
import torch

from contrastive_ops import LogSumExp, ScoreSum, diagonal, off_diagonal, reduce

pytestmark = pytest.mark.own_choice  # every offset on every backend

N, D = 150, 8
SIDES = (16, 32, 64, 96, 128)  # of tiles, on whatever backend
OFFSETS = [sign * offset for side in SIDES for offset in (side - 1, side) for sign in (1, -1)]


def embeddings():
    """Small integers, whose products are exact."""
    generator = torch.Generator().manual_seed(2)
    return [torch.randint(-2, 3, (N, D), generator=generator).float() for _ in range(2)]


@pytest.mark.parametrize("offsets", [OFFSETS[i : i + 4] for i in range(0, len(OFFSETS), 4)], ids=str)
def test_every_pair_of_a_diagonal(offsets, backend):
    queries, keys = embeddings()
    scores = queries @ keys.mT
    passed = {offset: ScoreSum(diagonal(offset), columns=True) for offset in offsets}
    for offset, (rows, columns) in reduce(queries, keys, passed, backend=backend).items():
        belongs = torch.arange(N) == torch.arange(N)[:, None] + offset
        assert torch.equal(rows, scores.masked_fill(~belongs, 0.0).sum(1)), offset
        assert torch.equal(columns, scores.masked_fill(~belongs, 0.0).sum(0)), offset


@pytest.mark.parametrize("offsets", [OFFSETS[i : i + 4] for i in range(0, len(OFFSETS), 4)], ids=str)
def test_no_pair_of_a_diagonal(offsets, backend):
    queries, keys = embeddings()
    scores = queries @ keys.mT
    passed = {offset: LogSumExp(off_diagonal(offset), columns=True) for offset in offsets}
    for offset, (rows, columns) in reduce(queries, keys, passed, backend=backend).items():
        belongs = torch.arange(N) == torch.arange(N)[:, None] + offset
        for found, dim in ((rows, 1), (columns, 0)):
            torch.testing.assert_close(found, scores.masked_fill(belongs, -torch.inf).logsumexp(dim), msg=str(offset))

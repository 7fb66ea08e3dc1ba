"""Without gradient: retrieval by smallest volume, and negatives for the matching loss."""

import pytest
import torch
import torch.nn.functional as F
from dense_volumes import dense_volumes

from contrastive_ops import gram_nearest, gram_negatives
from contrastive_ops.backends import eager

ITEMS, DRAWS = 16, 300


@pytest.fixture(params=[None, 5_000])
def block_bytes(request, monkeypatch):
    """As it is, and so little that there are many blocks in both directions."""
    if request.param:
        monkeypatch.setattr(eager, "BLOCK_BYTES", request.param)
        monkeypatch.setattr(eager, "BLOCK_N", 7)


def make_tuples(m, n, d=12, count=2, dtype=torch.float64):
    return [F.normalize(torch.randn(rows, d, dtype=torch.float64), dim=-1).to(dtype) for rows in (m, *[n] * count)]


@pytest.mark.parametrize("m, n, k", [(23, 31, 1), (23, 31, 10), (5, 31, 31), (1, 1, 1), (0, 4, 2)])
def test_nearest(m, n, k, block_bytes):
    anchor, *modalities = make_tuples(m, n)
    volumes, indices = gram_nearest(anchor, modalities, k)
    truth = dense_volumes(anchor, modalities).sort(1)
    assert torch.equal(indices, truth.indices[:, :k])
    torch.testing.assert_close(volumes, truth.values[:, :k], rtol=1e-12, atol=1e-12)


def test_nearest_in_half_precision(block_bytes):
    anchor, *modalities = make_tuples(20, 30, dtype=torch.bfloat16)
    volumes, _ = gram_nearest(anchor, modalities, 5)
    truth = dense_volumes(anchor.double(), [x.double() for x in modalities]).sort(1).values[:, :5]
    assert volumes.dtype == torch.float32
    torch.testing.assert_close(volumes.double(), truth, rtol=1e-5, atol=1e-5)


def test_nearest_puts_nan_last():
    anchor, *modalities = make_tuples(4, 9)
    modalities[0][3] = torch.nan
    volumes, indices = gram_nearest(anchor, modalities, 9)
    assert (indices[:, -1] == 3).all() and volumes[:, -1].isnan().all() and volumes[:, :-1].isfinite().all()


def probabilities(scores, floor):
    weights = scores.softmax(1) + floor
    weights.fill_diagonal_(0.0)
    return weights / weights.sum(1, keepdim=True)


@pytest.mark.parametrize("floor", [1e-4, 0.05, 0.0])
def test_negatives_are_drawn_as_promised(floor, monkeypatch):
    """Pearson's statistic over all lines and the items that are expected often enough to be counted; many blocks."""
    monkeypatch.setattr(eager, "BLOCK_BYTES", 4_000)
    monkeypatch.setattr(eager, "BLOCK_N", 9)
    anchor, *modalities = make_tuples(ITEMS, ITEMS)
    scores = -dense_volumes(anchor, modalities) / 0.15
    counts = torch.zeros(2, ITEMS, ITEMS, dtype=torch.float64)
    for seed in range(DRAWS):
        drawn = gram_negatives(anchor, modalities, temperature=0.15, floor=floor, seed=seed)
        for count, items in zip(counts, drawn, strict=True):
            count[torch.arange(ITEMS), items] += 1
    for count, lines in zip(counts, (scores, scores.mT), strict=True):
        assert count.diagonal().sum() == 0
        expected = DRAWS * probabilities(lines.clone(), floor)
        often = expected > 5
        statistic, cells = ((count - expected)[often] ** 2 / expected[often]).sum(), often.sum()
        # its mean lies between the cells less one a line and the cells, its variance is about twice that
        assert cells > 2 * ITEMS
        assert -ITEMS - 5 * (2 * cells) ** 0.5 < statistic - cells < 5 * (2 * cells) ** 0.5


def test_negatives_are_repeatable():
    anchor, *modalities = make_tuples(30, 30, dtype=torch.float32)
    first, second, other = (gram_negatives(anchor, modalities, seed=seed) for seed in (7, 7, 8))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(torch.stack(first), torch.stack(other))


def test_negatives_of_two_items():
    anchor, *modalities = make_tuples(2, 2)
    assert [x.tolist() for x in gram_negatives(anchor, modalities, seed=0)] == [[1, 0], [1, 0]]


def test_a_nan_tuple_is_replaced_by_chance():
    anchor, *modalities = make_tuples(6, 6)
    modalities[0][:] = torch.nan
    for drawn in gram_negatives(anchor, modalities, seed=1):
        assert ((drawn >= 0) & (drawn < 6) & (drawn != torch.arange(6))).all()

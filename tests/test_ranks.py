"""Ranks of positives against sorting the dense scores, and the means that are made of them."""

import math

import pytest
import torch

from contrastive_ops import (
    different,
    in_batch_accuracy,
    mrr,
    off_diagonal,
    positive_ranks,
    recall_at,
    same,
)
from contrastive_ops.testing import make_pairs

M, N, D = 60, 75, 16


def embeddings(dtype=torch.float32, batch=()):
    """Numbers so coarse that sums of products are exact in every dtype and order."""
    generator = torch.Generator().manual_seed(3)
    queries = torch.randint(-3, 4, (*batch, M, D), generator=generator).to(dtype)
    keys = torch.randint(-3, 4, (*batch, N, D), generator=generator).to(dtype)
    keys[..., :M, :] += queries[..., :M, :].sign()
    return queries, keys


def dense_ranks(scores, candidates, positives):
    best = scores.masked_fill(~positives, -torch.inf).amax(-1, keepdim=True)
    ranks = ((scores > best) & candidates).sum(-1)
    return ranks.masked_fill(~positives.any(-1), -1)


@pytest.mark.parametrize("batch", [(), (2,)], ids=["single", "batch"])
def test_of_the_diagonal(dtype, batch, backend):
    queries, keys = embeddings(dtype, batch)
    scores = queries.double() @ keys.double().mT
    pairs, everything = torch.eye(M, N, dtype=torch.bool), torch.ones(M, N, dtype=torch.bool)
    rows, columns = positive_ranks(queries, keys, columns=True, backend=backend)
    assert rows.dtype == columns.dtype == torch.int64
    assert torch.equal(rows, dense_ranks(scores, everything, pairs))
    assert torch.equal(columns, dense_ranks(scores.mT, everything.T, pairs.T))
    assert (columns[..., M:] == -1).all(), "columns without a query have no positive"
    assert torch.equal(positive_ranks(queries, keys, backend=backend), rows)
    assert torch.equal(positive_ranks(queries, keys, rows=False, columns=True, backend=backend), columns)


def test_of_labels_among_others(dtype, backend):
    """Several positives, and candidates that leave some pairs out."""
    queries, keys = embeddings(dtype)
    a, b = torch.arange(M) % 7, torch.arange(N) % 9
    groups, others = torch.arange(M) % 4, torch.arange(N) % 5
    scores = 0.5 * queries.double() @ keys.double().mT
    expected = dense_ranks(scores, groups[:, None] != others, a[:, None] == b)
    ranks = positive_ranks(
        queries, keys, scale=0.5, candidates=different(groups, others), positives=same(a, b), backend=backend
    )
    assert torch.equal(ranks, expected)


def test_ties_and_the_order(backend):
    queries, keys = make_pairs(40, 24)
    twice = torch.cat((keys, keys))
    ranks = positive_ranks(queries, keys, backend=backend)
    doubled = positive_ranks(queries, twice, backend=backend)
    assert torch.equal(doubled, 2 * ranks), "a copy of the positive is no better than the positive"
    turned = positive_ranks(queries, keys, scale=-1.0, backend=backend)
    assert torch.equal(turned, 39 - ranks)


def test_not_a_number_is_never_better(backend):
    queries, keys = make_pairs(20, 8)
    ranks = positive_ranks(queries, keys, backend=backend)
    keys[3] = math.nan
    worse = positive_ranks(queries, keys, backend=backend)
    assert worse[3] == 20
    others = torch.arange(20) != 3
    assert (worse[others] >= ranks[others]).all()
    queries[5] = math.nan
    assert positive_ranks(queries, keys, backend=backend)[5] == 20


def test_biases_compete(backend):
    """A row bias changes nothing; a column bias of -inf takes a candidate out."""
    queries, keys = embeddings()
    col_bias = torch.zeros(N)
    col_bias[::2] = -torch.inf
    scores = queries @ keys.mT + col_bias
    ranks = positive_ranks(queries, keys, row_bias=torch.arange(M).float(), col_bias=col_bias, backend=backend)
    assert torch.equal(
        ranks, dense_ranks(scores, scores.isfinite(), torch.eye(M, N, dtype=torch.bool) & scores.isfinite())
    )


def test_autocast_and_half_precision_agree():
    queries, keys = make_pairs(50, 32)
    with torch.autocast("cpu", torch.bfloat16):
        ranks = positive_ranks(queries, keys)
    assert torch.equal(ranks, positive_ranks(queries.bfloat16(), keys.bfloat16()))


def test_means():
    ranks = torch.tensor([0, 3, -1, 1, 9])
    assert recall_at(ranks, 1).item() == 0.25
    assert recall_at(ranks, 2).item() == 0.5
    assert recall_at(ranks, 10).item() == 1.0
    torch.testing.assert_close(mrr(ranks), torch.tensor((1 + 1 / 4 + 1 / 2 + 1 / 10) / 4))
    nobody = torch.full((3,), -1)
    assert recall_at(nobody, 1).item() == mrr(nobody).item() == 0.0


def test_in_batch_accuracy(backend):
    queries, keys = make_pairs(80, 8)
    scores = queries.double() @ keys.double().mT
    target = torch.arange(80)
    rows, columns = in_batch_accuracy(queries, keys, backend=backend)
    torch.testing.assert_close(rows, (scores.argmax(1) == target).float().mean())
    torch.testing.assert_close(columns, (scores.argmax(0) == target).float().mean())
    strict = in_batch_accuracy(queries, keys, candidates=off_diagonal(), backend=backend)
    assert torch.equal(torch.stack(strict), torch.stack((rows, columns)))


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda: recall_at(torch.arange(3), 0), ValueError, ("at least 1", "got 0")),
        (lambda: recall_at(torch.arange(3), 1.5), TypeError, ("k must be an int", "got float")),
        (lambda: recall_at([1, 2], 1), TypeError, ("ranks must be a torch.Tensor", "got list")),
        (lambda: mrr(torch.rand(3)), TypeError, ("ranks must be integers", "float32")),
    ],
)
def test_bad_input(call, error, words):
    with pytest.raises(error) as caught:
        call()
    assert all(word in str(caught.value) for word in words)

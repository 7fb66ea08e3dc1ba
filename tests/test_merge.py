"""A union of disjoint candidates is a merge of their log-sum-exps, whole or streamed."""

import pytest
import torch

from contrastive_ops import merge_lse, similarity_statistics, streamed_row_lse
from contrastive_ops.testing import make_pairs

INF = float("inf")


def test_merge_is_logsumexp_of_the_parts():
    parts = torch.tensor([[0.0, -INF, 3.0, 1e4], [1.0, -INF, -INF, 1e4]], dtype=torch.float64)
    expected = torch.tensor([1.3132616875182228, -INF, 3.0, 1e4 + 0.6931471805599453], dtype=torch.float64)
    torch.testing.assert_close(merge_lse(*parts), expected, rtol=1e-15, atol=0)


def test_merge_of_empty_sets_has_gradient_zero():
    """torch.logaddexp gives NaN here."""
    parts = [torch.tensor([-INF, 1.0]).requires_grad_() for _ in range(2)]
    merge_lse(*parts).sum().backward()
    for part in parts:
        assert torch.equal(part.grad, torch.tensor([0.0, 0.5]))


def test_merge_keeps_nan():
    assert merge_lse(torch.tensor([torch.nan]), torch.tensor([-INF])).isnan().all()


def test_merge_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one part, got none"):
        merge_lse()


@pytest.mark.parametrize("sizes", [(100,), (1, 99), (40, 0, 60), (0, 100)], ids=str)
def test_chunked_statistics_merge_to_the_whole(sizes, backend):
    queries, keys = (x.requires_grad_() for x in make_pairs(100, 16, torch.float64))
    whole = similarity_statistics(queries, keys, scale=9.0, backend=backend).row_lse
    parts = [similarity_statistics(queries, part, scale=9.0, backend=backend).row_lse for part in keys.split(sizes)]
    merged = merge_lse(*parts)
    torch.testing.assert_close(merged, whole, rtol=1e-13, atol=0)
    for ours, theirs in zip(*(torch.autograd.grad(x.sum(), (queries, keys)) for x in (merged, whole)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("sizes", [(100,), (1, 99), (40, 0, 60), (0, 100)], ids=str)
def test_streamed_is_the_whole(sizes, backend):
    queries, keys = make_pairs(100, 16, torch.float64)
    queries.requires_grad_()
    scale = torch.tensor(9.0, dtype=torch.float64).requires_grad_()
    whole = similarity_statistics(queries, keys, scale=scale, backend=backend).row_lse
    streamed = streamed_row_lse(queries, iter(keys.split(sizes)), scale=scale, backend=backend)
    torch.testing.assert_close(streamed, whole, rtol=1e-13, atol=0)
    weights = torch.linspace(-1.0, 1.0, 100, dtype=torch.float64)
    expected = torch.autograd.grad(whole, (queries, scale), weights)
    for ours, theirs in zip(torch.autograd.grad(streamed, (queries, scale), weights), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-13)


def test_streamed_gradient_at_scale_zero(backend):
    """The scale's gradient is the mean product, although every score is zero."""
    queries, keys = make_pairs(10, 4, torch.float64)
    scale = torch.zeros((), dtype=torch.float64).requires_grad_()
    streamed_row_lse(queries, [keys], scale=scale, backend=backend).sum().backward()
    torch.testing.assert_close(scale.grad, (queries @ keys.mT).mean(1).sum(), rtol=1e-12, atol=0)

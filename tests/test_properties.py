"""Random problems: shapes, strides, dtypes, relations, temperatures, and identities that must hold for all of them.

Examples are derandomised: the same ones on every run.
"""

import pytest
import torch
from conftest import without_gpu_kernels
from hypothesis import given, settings
from hypothesis import strategies as st

from contrastive_ops import clip_loss, info_nce, similarity_statistics
from contrastive_ops.testing import DTYPES, LAYOUTS, RELATIONS, SELF_RELATIONS, Case, make_pairs, norm_error
from contrastive_ops.testing.verdicts import check_case, solve

SIZE = st.integers(0, 40) | st.sampled_from([95, 96, 97, 127, 128, 129, 191, 193, 255, 257, 385])
D = st.integers(1, 40) | st.sampled_from([63, 64, 65, 129])


@st.composite
def cases(draw):
    relation = draw(st.sampled_from([*RELATIONS, *SELF_RELATIONS]))
    m, n, d = draw(SIZE), draw(SIZE), draw(D)
    directions = draw(st.sampled_from([(True, True), (True, False), (False, True)]))
    return Case(
        relation,
        (n if relation in SELF_RELATIONS else m, n, d),
        layout=draw(st.sampled_from(list(LAYOUTS))),
        batch=draw(st.sampled_from([0, 0, 1, 3])),
        rows=directions[0],
        columns=directions[1],
        row_bias=draw(st.booleans()),
        col_bias=draw(st.booleans()),
        tensor_scale=draw(st.booleans()),
        scale=draw(st.sampled_from([0.5, 5.0, 20.0, -7.5])),
    )


@without_gpu_kernels
@settings(max_examples=100)
@given(case=cases(), dtype=st.sampled_from(DTYPES))
def test_any_problem(backend, case, dtype):
    check_case(case, dtype, backend)


@settings(max_examples=60)
@given(case=cases(), dtype=st.sampled_from(DTYPES), workspace_bytes=st.integers(0, 1 << 18), threads=st.integers(1, 5))
def test_any_budget_and_thread_count_give_the_same_bits(case, dtype, workspace_bytes, threads):
    expected = solve(case, dtype, "cpu")
    torch.set_num_threads(threads)
    found = solve(case, dtype, "cpu", workspace_bytes=workspace_bytes)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def gradients(loss, *leaves):
    return torch.autograd.grad(loss, leaves)


PAIRS = st.tuples(st.integers(2, 60), st.integers(1, 40), st.integers(0, 1000))


@without_gpu_kernels
@settings(max_examples=40)
@given(pairs=PAIRS, scale=st.floats(0.01, 100.0))
def test_clip_is_symmetric_in_its_towers(backend, pairs, scale):
    a, b = (x.requires_grad_() for x in make_pairs(*pairs[:2], torch.float64, pairs[2]))
    one, other = clip_loss(a, b, scale, backend=backend), clip_loss(b, a, scale, backend=backend)
    torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-13)
    for x, y in zip(gradients(one, a, b), gradients(other, a, b), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-8, atol=1e-11)


@without_gpu_kernels
@settings(max_examples=40)
@given(pairs=PAIRS, scale=st.floats(0.01, 100.0))
def test_permuting_the_batch_permutes_the_losses(backend, pairs, scale):
    a, b = make_pairs(*pairs[:2], torch.float64, pairs[2])
    order = torch.randperm(len(a), generator=torch.Generator().manual_seed(pairs[2]))
    losses = clip_loss(a, b, scale, reduction="none", backend=backend)
    permuted = clip_loss(a[order], b[order], scale, reduction="none", backend=backend)
    torch.testing.assert_close(permuted, losses[order], rtol=1e-9, atol=1e-13)


@without_gpu_kernels
@settings(max_examples=40)
@given(pairs=PAIRS, shift=st.floats(-50.0, 50.0))
def test_a_common_bias_shifts_every_lse(backend, pairs, shift):
    a, b = make_pairs(*pairs[:2], torch.float64, pairs[2])
    plain = similarity_statistics(a, b, scale=5.0, backend=backend).row_lse
    bias = torch.full((len(b),), shift, dtype=torch.float64)
    shifted = similarity_statistics(a, b, scale=5.0, col_bias=bias, backend=backend).row_lse
    torch.testing.assert_close(shifted, plain + shift, rtol=1e-12, atol=1e-12)


@without_gpu_kernels
@settings(max_examples=40)
@given(pairs=PAIRS, scale=st.floats(0.01, 100.0))
def test_scale_and_features_trade_places(backend, pairs, scale):
    """Scores depend on scale * features only, and so <a, da> = scale * dscale (Euler)."""
    a, b = make_pairs(*pairs[:2], torch.float64, pairs[2])
    a.requires_grad_()
    factor = torch.tensor(scale, dtype=torch.float64).requires_grad_()
    da, dscale = gradients(info_nce(a, b, temperature=1 / factor, backend=backend), a, factor)
    euler, expected = (a.detach() * da).sum(), scale * dscale
    size = (a.detach() * da).norm() + 1e-12
    assert (euler - expected).abs() <= 1e-9 * size


@without_gpu_kernels
@settings(max_examples=40)
@given(pairs=PAIRS, parts=st.lists(st.integers(0, 30), min_size=1, max_size=5))
def test_any_chunking_of_the_negatives_is_the_same(backend, pairs, parts):
    a, b = (x.requires_grad_() for x in make_pairs(*pairs[:2], torch.float64, pairs[2]))
    bank = make_pairs(sum(parts), pairs[1], torch.float64, seed=1)[0]
    losses = [
        info_nce(a, b, temperature=0.2, negatives=negatives, reduction="none", backend=backend)
        for negatives in (bank.requires_grad_(), iter(bank.detach().split(parts)))
    ]
    torch.testing.assert_close(*losses, rtol=1e-10, atol=1e-13)
    for x, y in zip(*(gradients(loss.sum(), a, b) for loss in losses), strict=True):
        assert norm_error(y, x) <= 1e-10


@without_gpu_kernels
@pytest.mark.parametrize("relation", ["off_diagonal", "few_ids"])
@settings(max_examples=20)
@given(m=st.integers(1, 40), n=st.integers(1, 40))
def test_swapping_queries_and_keys_swaps_rows_and_columns(relation, backend, m, n):
    a, b = make_pairs(max(m, n), 9, torch.float64)
    a, b = a[:m], b[:n]
    candidates, positives = RELATIONS[relation](m, n, 0)
    options = {"candidates": candidates.relation, "positives": positives.relation}
    swapped_options = {}
    for name, relation_object in options.items():
        (clause,) = relation_object.clauses
        swapped = type(clause)(clause.kind, -clause.offset, clause.col_ids, clause.row_ids)
        swapped_options[name] = type(relation_object)((swapped,))
    one = similarity_statistics(a, b, columns=True, backend=backend, **options)
    other = similarity_statistics(b, a, columns=True, backend=backend, **swapped_options)
    for x, y in ((one.row_lse, other.col_lse), (one.col_sum, other.row_sum), (one.row_sum, other.col_sum)):
        torch.testing.assert_close(x, y, rtol=1e-10, atol=1e-12)

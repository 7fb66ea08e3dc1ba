"""A NaN in one embedding or bias stays in its own row and column of the scores.

Statistics only: in the gradients a zero weight meets the NaN in a matrix product, here as in dense PyTorch.
"""

import torch

from contrastive_ops import off_diagonal, same, similarity_statistics
from contrastive_ops.testing import make_pairs

M, N, ROW, COLUMN = 300, 500, 130, 257


def statistics(queries, keys, backend, **options):
    return similarity_statistics(queries, keys, scale=9.0, rows=True, columns=True, backend=backend, **options)


def only(index, size):
    return torch.arange(size) == index


def assert_others_unchanged(value, clean, hit):
    """Up to rounding: a tile's reference may be another one without the bad entry."""
    torch.testing.assert_close(value[~hit], clean[~hit], rtol=2e-6, atol=2e-6)


def test_bad_query(dtype, backend):
    """It spoils its row, and every column, as all of them contain it."""
    queries, keys = make_pairs(M, 20, dtype)[0], make_pairs(N, 20, dtype)[1]
    clean = statistics(queries, keys, backend, positives=off_diagonal())
    queries[ROW, 3] = torch.nan
    found = statistics(queries, keys, backend, positives=off_diagonal())
    for name in ("row_lse", "row_sum"):
        value = getattr(found, name)
        assert value[ROW].isnan()
        assert_others_unchanged(value, getattr(clean, name), only(ROW, M))
    assert found.col_lse.isnan().all()
    # the pair (130, 130) is no positive
    assert found.col_sum[~only(ROW, N)].isnan().all() and found.col_sum[ROW].isfinite()


def test_bad_key_reaches_only_the_rows_that_see_it(dtype, backend):
    """Candidates and positives by id: a pair outside the relation is masked, not multiplied by zero."""
    queries, keys = make_pairs(M, 20, dtype)[0], make_pairs(N, 20, dtype)[1]
    row_ids, col_ids = torch.arange(M) % 7, torch.arange(N) % 7
    relation = same(row_ids, col_ids)
    clean = statistics(queries, keys, backend, candidates=relation, positives=relation)
    keys[COLUMN] = torch.nan
    found = statistics(queries, keys, backend, candidates=relation, positives=relation)
    sees_it = row_ids == col_ids[COLUMN]
    for name, hit in (
        ("row_lse", sees_it),
        ("row_sum", sees_it),
        ("col_lse", only(COLUMN, N)),
        ("col_sum", only(COLUMN, N)),
    ):
        value = getattr(found, name)
        assert value[hit].isnan().all(), name
        assert_others_unchanged(value, getattr(clean, name), hit)


def test_bad_bias_stays_in_its_line(backend):
    queries, keys = make_pairs(M, 20)[0], make_pairs(N, 20)[1]
    col_bias = torch.zeros(N)
    clean = statistics(queries, keys, backend, col_bias=col_bias).col_lse
    col_bias[COLUMN] = torch.nan
    found = statistics(queries, keys, backend, col_bias=col_bias).col_lse
    assert found[COLUMN].isnan()
    assert_others_unchanged(found, clean, only(COLUMN, N))


def test_minus_infinity_as_bias_removes_a_candidate(backend):
    """log w with w = 0."""
    queries, keys = make_pairs(M, 20)[0], make_pairs(N, 20)[1]
    col_bias = torch.zeros(N).masked_fill(only(COLUMN, N), -torch.inf)
    found = statistics(queries, keys, backend, col_bias=col_bias)
    expected = statistics(queries, keys[~only(COLUMN, N)], backend)
    torch.testing.assert_close(found.row_lse, expected.row_lse, rtol=1e-6, atol=0)
    assert found.col_lse[COLUMN] == -torch.inf

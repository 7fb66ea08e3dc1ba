"""Relations: a name, the library's object, and the mask it must stand for."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from contrastive_ops.relations import Relation, all_pairs, diagonal, different, off_diagonal, same


class PairSet(NamedTuple):
    """A relation and, made without it, its mask `[M, N]` or `[B, M, N]`."""

    relation: Relation
    mask: Tensor


def _pairs(m: int, n: int, relation: Relation, belongs: Callable[[Tensor, Tensor], Tensor]) -> PairSet:
    i, j = torch.arange(m)[:, None], torch.arange(n)[None, :]
    return PairSet(relation, belongs(i, j).expand(m, n))


def _ids(m: int, n: int, values: int, seed: int, batch: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randint(values, (*batch, m), generator=generator),
        torch.randint(values, (*batch, n), generator=generator),
    )


def _equal(row_ids: Tensor, col_ids: Tensor) -> Tensor:
    return row_ids[..., :, None] == col_ids[..., None, :]


def _everything(m: int, n: int, batch: int) -> tuple[PairSet, PairSet | None]:
    return _pairs(m, n, all_pairs(), lambda i, j: i == i), None


def _shifted(offset: int) -> Callable[[int, int, int], tuple[PairSet, PairSet]]:
    def make(m: int, n: int, batch: int) -> tuple[PairSet, PairSet]:
        return (
            _pairs(m, n, off_diagonal(offset), lambda i, j: j != i + offset),
            _pairs(m, n, diagonal(offset), lambda i, j: j == i + offset),
        )

    return make


def _only_diagonal(m: int, n: int, batch: int) -> tuple[PairSet, PairSet]:
    return (
        _pairs(m, n, diagonal(), lambda i, j: j == i),
        _pairs(m, n, off_diagonal(1), lambda i, j: j != i + 1),
    )


def _two_diagonals(m: int, n: int, batch: int) -> tuple[PairSet, PairSet]:
    return (
        _pairs(m, n, off_diagonal() & off_diagonal(-3), lambda i, j: (j != i) & (j != i - 3)),
        # contradicting clauses: no pair is positive
        _pairs(m, n, diagonal() & off_diagonal(), lambda i, j: i != i),
    )


def _few_ids(m: int, n: int, batch: int) -> tuple[PairSet, PairSet]:
    rows, cols = _ids(m, n, 5, seed=1)
    return PairSet(different(rows, cols), ~_equal(rows, cols)), PairSet(same(rows, cols), _equal(rows, cols))


def _many_ids(m: int, n: int, batch: int) -> tuple[PairSet, PairSet]:
    """Most rows have no candidate, most columns no positive."""
    rows, cols = _ids(m, n, 2 * (m + n) + 1, seed=2)
    return PairSet(same(rows, cols), _equal(rows, cols)), PairSet(same(rows, cols), _equal(rows, cols))


def _no_candidates(m: int, n: int, batch: int) -> tuple[PairSet, PairSet]:
    rows, cols = torch.zeros(m, dtype=torch.int32), torch.zeros(n, dtype=torch.int32)
    return PairSet(different(rows, cols), ~_equal(rows, cols)), _pairs(m, n, all_pairs(), lambda i, j: i == i)


def _extreme_ids(m: int, n: int, batch: int) -> tuple[PairSet, PairSet]:
    """Ids at both ends of int64, and pairs that would collide if cut to 32 bits or to float64."""
    values = torch.tensor([-(2**63), 2**63 - 1, 2**32, 0, -1, 2**53, 2**53 + 1])
    rows, cols = (values[ids] for ids in _ids(m, n, len(values), seed=3))
    return PairSet(same(rows, cols), _equal(rows, cols)), PairSet(different(rows, cols), ~_equal(rows, cols))


def _sorted_ids(m: int, n: int, batch: int) -> tuple[PairSet, PairSet]:
    """Whole tiles have no candidate, so that skipping them is exercised."""
    rows, cols = (ids.sort().values for ids in _ids(m, n, 7, seed=4))
    return PairSet(same(rows, cols), _equal(rows, cols)), PairSet(same(rows, cols), _equal(rows, cols))


def _narrow_ids(m: int, n: int, batch: int) -> tuple[PairSet, PairSet]:
    """Small integer types, one of them strided."""
    rows, cols = _ids(2 * m, n, 3, seed=5)
    rows, cols = rows.to(torch.uint8)[::2], cols.to(torch.int16)
    return PairSet(different(rows, cols), ~_equal(rows, cols)), PairSet(same(rows, cols), _equal(rows, cols))


def _ids_and_diagonal(m: int, n: int, batch: int) -> tuple[PairSet, PairSet]:
    rows, cols = _ids(m, n, 4, seed=6)
    on_diagonal = torch.arange(m)[:, None] == torch.arange(n)[None, :]
    return (
        _pairs(m, n, off_diagonal(), lambda i, j: i != j),
        PairSet(same(rows, cols) & off_diagonal(), _equal(rows, cols) & ~on_diagonal),
    )


def _two_ids(m: int, n: int, batch: int) -> tuple[PairSet, PairSet]:
    (a, b), (c, d) = _ids(m, n, 3, seed=7), _ids(m, n, 4, seed=8)
    return (
        PairSet(different(a, b) & different(c, d), ~_equal(a, b) & ~_equal(c, d)),
        PairSet(same(a, b) & different(c, d), _equal(a, b) & ~_equal(c, d)),
    )


def _ids_per_batch(m: int, n: int, batch: int) -> tuple[PairSet, PairSet]:
    """Ids of their own for every batch entry among the candidates, shared ids among the positives."""
    rows, cols = _ids(m, n, 4, seed=9, batch=(batch,) if batch else ())
    shared_rows, shared_cols = _ids(m, n, 4, seed=10)
    return (
        PairSet(different(rows, cols), ~_equal(rows, cols)),
        PairSet(same(shared_rows, shared_cols), _equal(shared_rows, shared_cols)),
    )


RELATIONS: dict[str, Callable[[int, int, int], tuple[PairSet, PairSet | None]]] = {
    "everything": _everything,
    "off_diagonal": _shifted(0),
    "offset_right": _shifted(3),
    "offset_left": _shifted(-2),
    "offset_outside": _shifted(10_000),
    "only_diagonal": _only_diagonal,
    "two_diagonals": _two_diagonals,
    "few_ids": _few_ids,
    "many_ids": _many_ids,
    "no_candidates": _no_candidates,
    "extreme_ids": _extreme_ids,
    "sorted_ids": _sorted_ids,
    "narrow_ids": _narrow_ids,
    "ids_and_diagonal": _ids_and_diagonal,
    "two_ids": _two_ids,
    "ids_per_batch": _ids_per_batch,
}


def _symmetric_ids(n: int, batch: int) -> Tensor:
    return _ids(n, 0, 5, seed=11, batch=(batch,) if batch else ())[0]


def _self_everything(n: int, batch: int) -> tuple[PairSet, PairSet | None]:
    return _everything(n, n, batch)


def _self_sup_con(n: int, batch: int) -> tuple[PairSet, PairSet]:
    ids = _symmetric_ids(n, batch)
    return (
        _pairs(n, n, off_diagonal(), lambda i, j: i != j),
        PairSet(same(ids) & off_diagonal(), _equal(ids, ids) & ~torch.eye(n, dtype=torch.bool)),
    )


def _self_different(n: int, batch: int) -> tuple[PairSet, PairSet]:
    ids = _symmetric_ids(n, batch)
    return PairSet(different(ids), ~_equal(ids, ids)), PairSet(same(ids), _equal(ids, ids))


# relations of a set with itself that are symmetric, so that half of the pairs suffice
SELF_RELATIONS: dict[str, Callable[[int, int], tuple[PairSet, PairSet | None]]] = {
    "self_everything": _self_everything,
    "self_sup_con": _self_sup_con,
    "self_different": _self_different,
}

"""Which pairs the losses reduce, said once for one process and for the ranks of a group."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from contrastive_ops.relations import Relation, diagonal, off_diagonal, same


class Pairs(NamedTuple):
    """The arguments `candidates` and `positives` of `similarity_statistics`."""

    candidates: Relation
    positives: Relation | None


def matching_pairs(negatives: Relation | None = None) -> Pairs:
    """Pair i among its `negatives`, None for all others: CLIP, InfoNCE."""
    if negatives is None:
        return Pairs(off_diagonal(), diagonal())
    if not isinstance(negatives, Relation):
        raise TypeError(f"negatives must be a Relation such as different(ids) or None, got {type(negatives).__name__}")
    return Pairs(negatives.without_diagonal(), diagonal())


def labelled_pairs(labels: Tensor) -> Pairs:
    """All other items, and those of the same label: SupCon."""
    return Pairs(off_diagonal(), same(labels).without_diagonal())


def smoothed_pairs(label_smoothing: float) -> Pairs:
    """All others, summed too where labels are smoothed: GRAM, whose positives are no pairs of a tile."""
    return Pairs(off_diagonal(), off_diagonal() if label_smoothing else None)

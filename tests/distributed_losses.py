"""Each loss twice, of one process and of many, and the inputs that both get."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

import contrastive_ops
from contrastive_ops import Relation, different, distributed, same
from contrastive_ops.ops import cross_entropy_of_positive
from contrastive_ops.testing import make_pairs

Leaves = dict[str, Tensor]

EMBEDDING = 24
# lines of every rank: uneven, and none at all on one of them
COUNTS = {1: (13,), 2: (5, 12), 3: (9, 0, 14), 4: (6, 13, 0, 8)}
OTHER_COUNTS = {1: (7,), 2: (10, 3), 3: (4, 11, 2), 4: (0, 9, 5, 7)}
UNEVEN_GROUPS = {1: [[0]], 2: [[0], [1]], 3: [[0, 2], [1]], 4: [[3, 0], [1, 2]]}
OTHER = ("classes", "class_ids", "col_bias")  # leaves that have OTHER_COUNTS lines; "scale" is shared


def make_leaves(world: int, dtype: torch.dtype = torch.float32) -> Leaves:
    """Those of one process: the lines of all ranks, one after another."""
    m, n = sum(COUNTS[world]), sum(OTHER_COUNTS[world])
    generator = torch.Generator().manual_seed(world)
    images, texts = make_pairs(m, EMBEDDING, dtype, seed=world)
    classes, third = (F.normalize(torch.randn(k, EMBEDDING, generator=generator), dim=1).to(dtype) for k in (n, m))
    leaves = {
        "images": images,
        "texts": texts,
        "audios": F.normalize(images + texts + third, dim=1),
        "classes": classes,
        "row_bias": torch.randn(m, generator=generator),
        "col_bias": torch.randn(n, generator=generator),
        # far from the best scale, where the gradient would be a difference of nearly equal numbers
        "scale": torch.tensor(3.0, dtype=torch.float64 if dtype == torch.float64 else torch.float32),
    }
    ids = {
        "labels": torch.randint(6, (m,), generator=generator),
        "class_ids": torch.randint(6, (n,), generator=generator),
    }
    return {name: leaf.requires_grad_() for name, leaf in leaves.items()} | ids


def lines_of(leaves: Leaves, world: int, ranks: Sequence[int]) -> Leaves:
    """The lines of these ranks, with a graph to the leaves."""
    return {name: leaf if leaf.dim() == 0 else _lines(name, leaf, world, ranks) for name, leaf in leaves.items()}


def own_leaves(world: int, rank: int, dtype: torch.dtype = torch.float32) -> Leaves:
    """What one of the ranks has."""
    whole = make_leaves(world, dtype)
    own = lines_of(whole, world, [rank])
    return {name: leaf.detach().clone().requires_grad_(whole[name].requires_grad) for name, leaf in own.items()}


def _lines(name: str, leaf: Tensor, world: int, ranks: Sequence[int]) -> Tensor:
    parts = leaf.split((OTHER_COUNTS if name in OTHER else COUNTS)[world])
    return torch.cat([parts[rank] for rank in ranks])


class Loss(NamedTuple):
    """One objective."""

    one: Callable[[Leaves], tuple[Tensor, Tensor | int]]  # (sum of the losses, how many the mean is over)
    many: Callable[..., Tensor]  # (leaves of a rank, how it is distributed)


def _frozen(x: Leaves, *names: str) -> Leaves:
    return x | {name: x[name].detach() for name in names}


def _clip(label_smoothing: float = 0.0, frozen: tuple[str, ...] = ()) -> Loss:
    def one(x: Leaves) -> tuple[Tensor, int]:
        x = _frozen(x, *frozen)
        options = {"label_smoothing": label_smoothing, "reduction": "sum"}
        return contrastive_ops.clip_loss(x["images"], x["texts"], x["scale"], **options), len(x["images"])

    def many(x: Leaves, **how: object) -> Tensor:
        x = _frozen(x, *frozen)
        return distributed.clip_loss(x["images"], x["texts"], x["scale"], label_smoothing=label_smoothing, **how)

    return Loss(one, many)


def _clip_with_negatives(negatives: Callable[[Tensor], Relation]) -> Loss:
    """Only these pairs compete."""

    def one(x: Leaves) -> tuple[Tensor, int]:
        options = {"negatives": negatives(x["labels"]), "reduction": "sum"}
        return contrastive_ops.clip_loss(x["images"], x["texts"], x["scale"], **options), len(x["images"])

    def many(x: Leaves, **how: object) -> Tensor:
        return distributed.clip_loss(x["images"], x["texts"], x["scale"], negatives=negatives(x["labels"]), **how)

    return Loss(one, many)


def _info_nce(negatives: str | None = None) -> Loss:
    def arguments(x: Leaves) -> dict[str, object]:
        return {"temperature": 1 / x["scale"], "negatives": None if negatives is None else x[negatives]}

    def one(x: Leaves) -> tuple[Tensor, int]:
        total = contrastive_ops.info_nce(x["images"], x["texts"], reduction="sum", **arguments(x))
        return total, len(x["images"])

    return Loss(one, lambda x, **how: distributed.info_nce(x["images"], x["texts"], **arguments(x), **how))


def _sup_con() -> Loss:
    def one(x: Leaves) -> tuple[Tensor, Tensor]:
        labels = x["labels"]
        total = contrastive_ops.sup_con(x["images"], labels, temperature=1 / x["scale"], reduction="sum")
        return total, ((labels[:, None] == labels[None, :]).sum(1) > 1).sum()

    return Loss(one, lambda x, **how: distributed.sup_con(x["images"], x["labels"], temperature=1 / x["scale"], **how))


def _gram(label_smoothing: float = 0.0, detach_keys: bool = False) -> Loss:
    options = {"label_smoothing": label_smoothing, "detach_keys": detach_keys}

    def arguments(x: Leaves) -> tuple[Tensor, list[Tensor]]:
        return x["images"], [x["texts"], x["audios"]]

    def one(x: Leaves) -> tuple[Tensor, int]:
        total = contrastive_ops.gram_loss(
            *arguments(x), temperature=1 / x["scale"], reduction="sum", backend="eager", **options
        )
        return total, len(x["images"])

    def many(x: Leaves, **how: object) -> Tensor:
        how["backend"] = "eager"
        return distributed.gram_loss(*arguments(x), temperature=1 / x["scale"], **options, **how)

    return Loss(one, many)


def _with_biases() -> Loss:
    """A loss of one's own: items against classes, ids on both sides, biases on both sides, both directions."""

    def losses(x: Leaves, statistics: Callable[..., contrastive_ops.Statistics], **how: object) -> Tensor:
        found = statistics(
            x["images"],
            x["classes"],
            scale=x["scale"],
            row_bias=x["row_bias"],
            col_bias=x["col_bias"],
            candidates=different(x["labels"], x["class_ids"]),
            positives=same(x["labels"], x["class_ids"]),
            rows=True,
            columns=True,
            **how,
        )
        of_lines = zip((found.row_lse, found.col_lse), (found.row_sum, found.col_sum), strict=True)
        return torch.cat([cross_entropy_of_positive(lse, total / 3) for lse, total in of_lines])

    def one(x: Leaves) -> tuple[Tensor, int]:
        of_lines = losses(x, contrastive_ops.similarity_statistics)
        return of_lines.sum(), of_lines.numel()

    def many(x: Leaves, grad_reduction: str = "mean", **how: object) -> Tensor:
        return distributed.mean_over_ranks(
            losses(x, distributed.similarity_statistics, **how), grad_reduction=grad_reduction
        )

    return Loss(one, many)


LOSSES = {
    "clip": _clip(),
    "clip_smoothed": _clip(label_smoothing=0.1),
    "clip_frozen_images": _clip(frozen=("images",)),
    "clip_frozen_texts": _clip(label_smoothing=0.1, frozen=("texts",)),
    "clip_without_duplicates": _clip_with_negatives(different),
    "clip_without_duplicates_in_clusters": _clip_with_negatives(lambda ids: different(ids) & same(ids // 3)),
    "clip_in_clusters": _clip_with_negatives(lambda ids: same(ids // 3)),
    "info_nce": _info_nce(),
    "info_nce_bank": _info_nce(negatives="classes"),
    "sup_con": _sup_con(),
    "gram": _gram(label_smoothing=0.1),
    "gram_detached": _gram(detach_keys=True),
    "with_biases": _with_biases(),
}


def expected(name: str, leaves: Leaves, world: int, groups: Sequence[Sequence[int]]) -> Tensor:
    """The mean over all lines, whose candidates are those of their rank group."""
    parts = [LOSSES[name].one(lines_of(leaves, world, members)) for members in groups]
    return sum(total for total, _ in parts) / max(int(sum(count for _, count in parts)), 1)

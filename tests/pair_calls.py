"""A call of every public function that has a gradient, as a function of N pairs: `CALLS[name](x, y)`, one number each.

Losses are those of `contrastive_ops.testing.loss_calls`, so that a new one joins by itself; `test_pair_calls.py` asks
whether any function is missing. Distributed losses run in a group of this process alone (`alone`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

import contrastive_ops as ops
from contrastive_ops import distributed
from contrastive_ops.testing import make_pairs
from contrastive_ops.testing.loss_calls import CALLS as LOSS_CALLS

N, D = 12, 8


def _total(values: Any) -> Tensor:
    """One number of all that has a gradient."""
    if isinstance(values, Tensor):
        return values.sum()
    return sum(value.sum() for value in values if value is not None)


def _ids(x: Tensor) -> Tensor:
    return torch.arange(len(x)) // 2


def _scale(x: Tensor) -> Tensor:
    """A scale with a gradient."""
    return 2.0 + x.square().mean()


# other ways into a loss, by the kind of its arguments
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {name: call.loss for name, call in LOSS_CALLS.items()} | {
    "clip_loss, learned scale": lambda x, y: ops.clip_loss(x, y, _scale(x)),
    "clip_loss, no reduction": lambda x, y: ops.clip_loss(x, y, 3.0, reduction="none").sum(),
    "info_nce, no reduction": lambda x, y: ops.info_nce(x, y, reduction="none").sum(),
    "info_nce, learned temperature": lambda x, y: ops.info_nce(x, y, temperature=1 / _scale(x)),
    "info_nce, bank": lambda x, y: ops.info_nce(x, y, negatives=y.detach()),
    "info_nce, trained bank": lambda x, y: ops.info_nce(x, y, negatives=y * 0.5),
    "info_nce, chunks": lambda x, y: ops.info_nce(x, y, negatives=y.detach().split(5)),
    "info_nce, private negatives": lambda x, y: ops.info_nce(x, y, negatives=torch.stack((x, y * 0.5), 1)),
    "gram_loss, 1 modality": lambda x, y: ops.gram_loss(x, [y]),
    "gram_loss, 3 modalities": lambda x, y: ops.gram_loss(x, [y, y.flip(1), x * y], label_smoothing=0.1),
    "gram_loss, detached keys": lambda x, y: ops.gram_loss(x, [y, y.flip(1)], detach_keys=True),
    "collo_ssl, samples": lambda x, y: ops.collo_ssl(
        x, y[None], y[None], samples=torch.arange(2 * len(x)).view(2, -1) % len(x)
    ),
    "packed_info_nce, targets": lambda x, y: ops.packed_info_nce(x, y, targets=torch.arange(len(x)).flip(0)),
    "shared_anchor_loss, one direction": lambda x, y: ops.shared_anchor_loss(x, (y, y.flip(1)), symmetric=False),
    "weighted_info_nce, positives unweighted": lambda x, y: ops.weighted_info_nce(x, y, y.sum(1), weigh_positive=False),
}
PRIMITIVES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "similarity_statistics": lambda x, y: _total(
        ops.similarity_statistics(
            x,
            y,
            scale=_scale(x),
            row_bias=x.sum(1),
            col_bias=y.sum(1),
            candidates=ops.different(_ids(x)),
            positives=ops.same(_ids(x)),
            columns=True,
        )
    ),
    "similarity_statistics, with itself": lambda x, y: _total(
        ops.similarity_statistics(x * y, x * y, candidates=ops.off_diagonal(), columns=True)
    ),
    "reduce": lambda x, y: sum(
        _total(found)
        for found in ops.reduce(
            x,
            y,
            {
                "others": ops.LogSumExp(ops.off_diagonal(), columns=True),
                "hard": ops.LogSumExp(ops.different(_ids(x)), factor=2.0),
                "pairs": ops.ScoreSum(ops.same(_ids(x)), rows=False, columns=True),
            },
            scale=_scale(x),
        ).values()
    ),
    "volume_statistics": lambda x, y: _total(
        ops.volume_statistics(x, [y, y.flip(1)], positives=ops.off_diagonal(), columns=True)
    ),
    "volume_statistics, frozen modalities": lambda x, y: _total(
        ops.volume_statistics(x * y.sum(), [y.detach(), y.detach().flip(1)])
    ),
    "summed_row_cross_entropy": lambda x, y: ops.summed_row_cross_entropy(
        x,
        y,
        scale=_scale(x),
        col_bias=y.sum(1),
        candidates=ops.off_diagonal(),
        positives=ops.diagonal(),
    ),
    "streamed_row_lse": lambda x, y: ops.streamed_row_lse(x * y, y.detach().split(5), scale=_scale(y)).sum(),
    "softmax_mean": lambda x, y: ops.softmax_mean(x, y, x * y).square().sum(),
    "gram_volume": lambda x, y: ops.gram_volume(x, [y, y.flip(1)]).sum(),
    "merge_lse": lambda x, y: ops.merge_lse(x[:, 0], y[:, 0], x[:, 1]).sum(),
}


def _over_ranks(loss: Callable[..., Tensor], *strategies: str) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    return {strategy: lambda x, y, strategy=strategy: loss(x, y, strategy=strategy) for strategy in strategies}


DISTRIBUTED_LOSSES: dict[str, Callable[..., Tensor]] = {
    "clip_loss": lambda x, y, **how: distributed.clip_loss(x, y, _scale(x), label_smoothing=0.1, **how),
    "gram_loss": lambda x, y, **how: distributed.gram_loss(x, [y, y.flip(1)], label_smoothing=0.1, **how),
    "info_nce": lambda x, y, **how: distributed.info_nce(x, y, **how),
    "sup_con": lambda x, y, **how: distributed.sup_con(x * y, _ids(x), **how),
    "similarity_statistics": lambda x, y, **how: _total(
        distributed.similarity_statistics(
            x, y, candidates=ops.different(_ids(x)), positives=ops.same(_ids(x)), columns=True, **how
        )
    ),
    "mean_over_ranks": lambda x, y, **how: distributed.mean_over_ranks((x * y).sum(1)),
}
DISTRIBUTED = {
    f"distributed.{name}, {strategy}": call
    for name, loss in DISTRIBUTED_LOSSES.items()
    for strategy, call in _over_ranks(loss, "gather", "ring").items()
}
CALLS = LOSSES | PRIMITIVES | DISTRIBUTED

# what has no gradient: indices, or a whole training step
NO_GRADIENT = {
    "gram_nearest": lambda x, y: ops.gram_nearest(x, [y, y.flip(1)], 3),
    "gram_negatives": lambda x, y: ops.gram_negatives(x, [y, y.flip(1)], seed=0),
    "positive_ranks": lambda x, y: ops.positive_ranks(x, y),
    "recall_at": lambda x, y: [ops.recall_at(ranks, 1) for ranks in ops.positive_ranks(x, y, columns=True)],
    "mrr": lambda x, y: [ops.mrr(ranks) for ranks in ops.positive_ranks(x, y, columns=True)],
    "in_batch_accuracy": lambda x, y: ops.in_batch_accuracy(x, y),
}
WHOLE_STEPS = {"distributed.cached_loss"}
RELATIONS = {"all_pairs", "diagonal", "different", "off_diagonal", "same"}  # of ids


def pairs(seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    x, y = make_pairs(N, D, dtype, seed=seed)
    return x, y


@contextmanager
def alone() -> Iterator[None]:
    """A process group of this process."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


def seeded(call: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """The same function at every call: some draw numbers."""

    def function(x: Tensor, y: Tensor) -> Tensor:
        torch.manual_seed(0)
        return call(x, y)

    return function

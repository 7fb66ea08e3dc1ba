"""What a step hands to the collectives of `torch.distributed`, counted where it is handed over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from torch import Tensor

from contrastive_ops import distributed
from contrastive_ops.distributed import collectives
from contrastive_ops.testing import make_pairs
from contrastive_ops.testing.traffic import STRATEGIES, Setting

WORLD = 4
SETTINGS = {
    "float32": Setting(WORLD, 24, 16, group=2),
    "bfloat16 on the wire": Setting(WORLD, 24, 16, group=2, feature_bytes=2),
    "frozen": Setting(WORLD, 24, 16, group=2, frozen=True),
}


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def run(rank: int, world: int) -> dict[str, float]:
    """Bytes that this rank sends, by setting and strategy, if a collective costs what its ring algorithm costs."""
    return {
        f"{name}-{strategy}": _sent(rank, setting, strategy)
        for name, setting in SETTINGS.items()
        for strategy in STRATEGIES
    }


def _sent(rank: int, setting: Setting, strategy: str) -> float:
    total = 0.0

    def counting(call: Callable[..., Any], cost: Callable[..., float]) -> Callable[..., Any]:
        def wrapped(*args: Any, group: dist.ProcessGroup, **kwargs: Any) -> Any:
            nonlocal total
            total += cost(dist.get_world_size(group), *args)
            return call(*args, group=group, **kwargs)

        return wrapped

    def passing(operations: list[dist.P2POp]) -> Any:
        nonlocal total
        total += sum(_bytes(operation.tensor) for operation in operations if operation.op is dist.isend)
        return send(operations)

    send = dist.batch_isend_irecv
    images, texts = make_pairs(setting.lines, setting.embedding, seed=rank)
    # a frozen side travels, and with "shard" the images travel
    frozen = () if not setting.frozen else (images,) if strategy == "shard" else (texts,)
    for features in (images, texts):
        features.requires_grad_(not any(features is x for x in frozen))
    patches = [
        mock.patch.object(
            collectives, "_all_gather", counting(collectives._all_gather, lambda w, out, own: (w - 1) * _bytes(own))
        ),
        mock.patch.object(
            collectives,
            "_reduce_scatter",
            counting(collectives._reduce_scatter, lambda w, own, all_: (w - 1) * _bytes(own)),
        ),
        mock.patch.object(
            dist,
            "all_to_all_single",
            counting(dist.all_to_all_single, lambda w, got, sent, *_: (w - 1) / w * _bytes(sent)),
        ),
        mock.patch.object(
            dist, "all_reduce", counting(dist.all_reduce, lambda w, value: 2 * (w - 1) / w * _bytes(value))
        ),
        mock.patch.object(dist, "batch_isend_irecv", passing),
    ]
    wire_dtype = torch.bfloat16 if setting.feature_bytes == 2 else None
    group_size = setting.group if strategy == "grouped" else None
    for patch in patches:
        patch.start()
    try:
        distributed.clip_loss(
            images, texts, 20.0, strategy=strategy, group_size=group_size, wire_dtype=wire_dtype
        ).backward()
    finally:
        mock.patch.stopall()
    return total

"""Training steps on the ranks of a world: trainers that reduce gradients, and the gradient cache."""

import functools
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from distributed_losses import COUNTS, UNEVEN_GROUPS
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from contrastive_ops import distributed

FEATURES = 12
STRATEGIES = ("gather", "ring", "shard", "grouped")


class TwoTowers(nn.Module):
    """Embeddings of both sides and the logit scale, as open_clip's model returns them."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.image, self.text = (nn.Linear(FEATURES, 8) for _ in range(2))
        self.dropout = nn.Dropout(dropout)
        self.log_scale = nn.Parameter(torch.tensor([1.0]))  # [1]: FSDP has no 0-dim parameters
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for tower in (self.image, self.text):
                for parameter in tower.parameters():
                    parameter.copy_(torch.randn(parameter.shape, generator=generator))

    def forward(self, images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        image = F.normalize(self.image(self.dropout(images)), dim=1)
        text = F.normalize(self.text(self.dropout(texts)), dim=1)
        return image, text, self.log_scale.exp().squeeze(0)


def batch_of(world: int, ranks: Sequence[int]) -> tuple[Tensor, Tensor]:
    """(images, texts) of these ranks, one rank after another."""
    generator = torch.Generator().manual_seed(1)
    shared, *own = torch.randn(3, sum(COUNTS[world]), FEATURES, generator=generator)
    images, texts = (torch.cat([(shared + x).split(COUNTS[world])[rank] for rank in ranks]) for x in own)
    return images, texts


def gradients(model: nn.Module) -> dict[str, Tensor]:
    """By name; whole, where the trainer has sharded them."""
    found = {}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        gradient = parameter.grad.full_tensor() if hasattr(parameter.grad, "full_tensor") else parameter.grad
        found[name.removeprefix("module.")] = gradient.clone()
    return found


def _how(strategy: str, world: int) -> dict[str, Any]:
    return {"strategy": strategy, "groups": UNEVEN_GROUPS[world] if strategy == "grouped" else None}


class _CountsReductions:
    """DistributedDataParallel with a hook that counts what it reduces."""

    def __init__(self, model: nn.Module) -> None:
        self.model = DistributedDataParallel(model)
        self.model.register_comm_hook(None, self._hook)
        self.reductions = 0

    def _hook(self, state: None, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
        self.reductions += bucket.is_last()
        world = dist.get_world_size()
        work = dist.all_reduce(bucket.buffer(), async_op=True)
        return work.get_future().then(lambda future: future.value()[0] / world)


def run(rank: int, world: int) -> dict[str, Any]:
    """Gradients after one step of every trainer; the gradient cache also beside the same step with all graphs."""
    batch = batch_of(world, [rank])
    found: dict[str, Any] = {}
    for strategy in STRATEGIES:
        model = DistributedDataParallel(TwoTowers())
        distributed.clip_loss(*model(*batch), label_smoothing=0.1, **_how(strategy, world)).backward()
        found[f"ddp-{strategy}"] = gradients(model)
    for strategy in ("gather", "ring"):
        model = TwoTowers()
        fully_shard(model, mesh=dist.device_mesh.init_device_mesh("cpu", (world,)))
        distributed.clip_loss(*model(*batch), label_smoothing=0.1, **_how(strategy, world)).backward()
        found[f"fsdp-{strategy}"] = gradients(model)
    model = TwoTowers()
    fully_shard(model, mesh=dist.device_mesh.init_device_mesh("cpu", (world,)))
    loss = functools.partial(distributed.clip_loss, label_smoothing=0.1, strategy="ring")
    pieces = [side.tensor_split(2) for side in batch]  # as many everywhere: FSDP gathers parameters for each
    distributed.cached_loss(model, zip(*pieces, strict=True), loss)
    found["cached_fsdp-ring"] = gradients(model)
    micro_batches = list(zip(*(side.split(4) for side in batch), strict=True))
    for strategy in STRATEGIES:
        loss = functools.partial(distributed.clip_loss, label_smoothing=0.1, **_how(strategy, world))
        counting = _CountsReductions(TwoTowers())
        value = distributed.cached_loss(counting.model, micro_batches, loss)
        found[f"cached-{strategy}"] = gradients(counting.model)
        found[f"reductions-{strategy}"] = counting.reductions
        found[f"value-{strategy}"] = value
    found["dropout"] = _with_dropout(rank, micro_batches)
    return found


def _with_dropout(rank: int, micro_batches: list[tuple[Tensor, Tensor]]) -> list[Any]:
    """(gradients, next random number) of the gradient cache, and of one graph with the same random numbers."""
    loss = functools.partial(distributed.clip_loss, strategy="gather")
    both = []
    for cached in (True, False):
        model = TwoTowers(dropout=0.3)
        torch.manual_seed(rank)
        if cached:
            distributed.cached_loss(model, micro_batches, loss)
        else:
            images, texts, scales = zip(*(model(*micro_batch) for micro_batch in micro_batches), strict=True)
            loss(torch.cat(images), torch.cat(texts), scales[0]).backward()
        both.append((gradients(model), torch.rand(1)))
    return both

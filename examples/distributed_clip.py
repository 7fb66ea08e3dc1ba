"""CLIP over several processes, and the same training in one: the loss curves are one curve.

    torchrun --nproc-per-node 4 examples/distributed_clip.py --strategy ring
    torchrun --nproc-per-node 4 examples/distributed_clip.py --strategy grouped --group-size 2
    torchrun --nproc-per-node 4 examples/distributed_clip.py --micro-batch 16

Every process trains on its part of the batch, with DistributedDataParallel over gloo; the parts differ in size on
purpose. Process 0 then trains alone on the whole batches and compares. Needs no data and no GPU.
"""

from __future__ import annotations

import argparse
import functools
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from results import make_folder
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from contrastive_ops import clip_loss, distributed

IMAGE, TEXT, CONCEPTS, EMBEDDING = 48, 32, 12, 16


class TwoTowers(nn.Module):
    """Embeddings of both sides, and the logit scale beside them: DistributedDataParallel has to see it used."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Sequential(nn.Linear(IMAGE, 64), nn.GELU(), nn.Linear(64, EMBEDDING))
        self.text = nn.Sequential(nn.Linear(TEXT, 64), nn.GELU(), nn.Linear(64, EMBEDDING))
        self.log_scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return F.normalize(self.image(images), dim=1), F.normalize(self.text(texts), dim=1), self.log_scale.exp()


class Pairs:
    """Two noisy views of hidden concepts; step s gives the same batch in every process."""

    def __init__(self, batch: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.batch = batch
        self.to_image = torch.randn(CONCEPTS, IMAGE, generator=generator)
        self.to_text = torch.randn(CONCEPTS, TEXT, generator=generator)

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(1 + step)
        concepts = torch.randn(self.batch, CONCEPTS, generator=generator)
        images, texts = (concepts @ view for view in (self.to_image, self.to_text))
        return tuple(x + torch.randn(x.shape, generator=generator) for x in (images, texts))  # type: ignore[return-value]


def part_sizes(batch: int, world: int) -> list[int]:
    """Uneven parts of a batch: later ranks get more."""
    weights = torch.arange(1, world + 1) + world
    sizes = (batch * weights / weights.sum()).long()
    sizes[-1] += batch - sizes.sum()
    return sizes.tolist()


def optimizer_of(model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=0.9)


def train_together(arguments: argparse.Namespace, pairs: Pairs) -> list[float]:
    """The loss of every step, as all ranks have it."""
    rank, world = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    model = DistributedDataParallel(TwoTowers())
    optimizer = optimizer_of(model, arguments.learning_rate)
    loss_of = functools.partial(
        distributed.clip_loss, strategy=arguments.strategy, group_size=arguments.group_size, label_smoothing=0.1
    )
    losses = []
    for step in range(arguments.steps):
        images, texts = (x.split(part_sizes(arguments.batch, world))[rank] for x in pairs[step])
        optimizer.zero_grad()
        if arguments.micro_batch:
            micro_batches = list(
                zip(images.split(arguments.micro_batch), texts.split(arguments.micro_batch), strict=True)
            )
            loss = distributed.cached_loss(model, micro_batches, loss_of)
        else:
            loss = loss_of(*model(images, texts))
            loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def train_alone(arguments: argparse.Namespace, pairs: Pairs, world: int) -> list[float]:
    """The same steps in one process; with groups, the mean of their losses weighted by their sizes."""
    torch.manual_seed(0)
    model = TwoTowers()
    optimizer = optimizer_of(model, arguments.learning_rate)
    sizes = part_sizes(arguments.batch, world)
    group = arguments.group_size or world
    of_groups = [sum(sizes[first : first + group]) for first in range(0, world, group)]
    losses = []
    for step in range(arguments.steps):
        optimizer.zero_grad()
        images, texts, scale = model(*pairs[step])
        parts = zip(images.split(of_groups), texts.split(of_groups), strict=True)
        loss = sum(clip_loss(i, t, scale, label_smoothing=0.1, reduction="sum") for i, t in parts) / arguments.batch
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def plot(path: Path, together: list[float], alone: list[float], title: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    curves, differences = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    curves.plot(alone, linewidth=4, alpha=0.35, label="one process")
    curves.plot(together, linewidth=1, label=title)
    curves.set_ylabel("loss")
    curves.legend()
    differences.plot([a - b for a, b in zip(together, alone, strict=True)], linewidth=0.8)
    differences.set(xlabel="step", ylabel="difference")
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--strategy", choices=("gather", "ring", "shard", "grouped"), default="ring")
    parser.add_argument("--group-size", type=int, help='ranks of a group, for --strategy "grouped"')
    parser.add_argument("--micro-batch", type=int, help="train with the gradient cache, in pieces of so many pairs")
    parser.add_argument("--batch", type=int, default=256, help="pairs of a step, over all processes")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--plot", type=Path, help="write the curves to this file (needs matplotlib)")
    arguments = parser.parse_args()
    if arguments.steps < 1:
        parser.error(f"--steps must be at least 1, got {arguments.steps}")
    if arguments.plot:
        make_folder("--plot", arguments.plot.parent, arguments.plot)
    if not dist.is_torchelastic_launched():
        parser.error("started alone, expected by torchrun: torchrun --nproc-per-node 4 examples/distributed_clip.py")
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    pairs = Pairs(arguments.batch)
    together = train_together(arguments, pairs)
    world, rank = dist.get_world_size(), dist.get_rank()
    dist.destroy_process_group()
    if rank:
        return
    alone = train_alone(arguments, pairs, world)
    print(f"{world} processes with {part_sizes(arguments.batch, world)} pairs each, strategy {arguments.strategy}")
    for step in sorted({0, arguments.steps // 4, arguments.steps // 2, arguments.steps - 1}):
        print(f"step {step:4d}: loss {together[step]:.6f}, in one process {alone[step]:.6f}")
    difference = max(abs(a - b) / b for a, b in zip(together, alone, strict=True))
    print(f"largest relative difference of {arguments.steps} steps: {difference:.1e}")
    if arguments.plot:
        plot(arguments.plot, together, alone, f"{world} processes, {arguments.strategy}")


if __name__ == "__main__":
    main()

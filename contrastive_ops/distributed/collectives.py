"""What the strategies ask of `torch.distributed`. A tensor `[n, ...]` holds n lines; n may differ from rank to rank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from contrastive_ops.ops.rule import Rule
from contrastive_ops.ops.transforms import refuse_batched_backward

Tensors = tuple[Tensor, ...]

# torch 2.13 renamed both, and warns where the old names are used
_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_reduce_scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor


class Ranks(NamedTuple):
    """A process group and this process's place in it."""

    group: dist.ProcessGroup
    rank: int
    size: int

    @classmethod
    def of(cls, group: dist.ProcessGroup | None) -> Ranks:
        """None stands for the default group."""
        if not dist.is_available() or not dist.is_initialized():
            raise ValueError(
                "torch.distributed is not initialised, expected a process group: call "
                "torch.distributed.init_process_group first, or use the loss of one process, contrastive_ops.<name>"
            )
        if group is None:
            group = dist.group.WORLD
        if not isinstance(group, dist.ProcessGroup):
            raise TypeError(f"group must be a torch.distributed.ProcessGroup or None, got {type(group).__name__}")
        rank = dist.get_rank(group)
        if rank < 0:
            raise ValueError("this process is not a member of the group, expected only members to call the loss")
        return cls(group, rank, dist.get_world_size(group))

    @property
    def host_device(self) -> torch.device:
        """Where small tensors live whose values the host wants to know."""
        on_gpu = dist.get_backend(self.group) == "nccl"
        return torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")

    def neighbour(self, step: int) -> int:
        """The global rank of the one `step` places further around the ring."""
        return dist.get_global_rank(self.group, (self.rank + step) % self.size)


def all_gather_lines(lines: Tensor, counts: Sequence[int], ranks: Ranks) -> Tensor:
    """`[n, ...]` of every rank, in the order of the ranks: `[sum(counts), ...]`."""
    if ranks.size == 1:
        return lines
    height = max(counts)
    gathered = lines.new_empty((ranks.size * height, *lines.shape[1:]))
    _all_gather(gathered, _padded(lines, height), group=ranks.group)
    if min(counts) == height:
        return gathered
    return torch.cat([part[:count] for part, count in zip(gathered.split(height), counts, strict=True)])


def reduce_scatter_lines(lines: Tensor, counts: Sequence[int], ranks: Ranks) -> Tensor:
    """The sum over ranks of `[sum(counts), ...]`, of which every rank gets its own `[n, ...]`."""
    if ranks.size == 1:
        return lines
    height = max(counts)
    if min(counts) < height:
        lines = torch.cat([_padded(part, height) for part in lines.split(list(counts))])
    own = lines.new_empty((height, *lines.shape[1:]))
    _reduce_scatter(own, lines.contiguous(), group=ranks.group)
    return own[: counts[ranks.rank]]


def exchange_lines(lines: Tensor, counts: Sequence[int], ranks: Ranks) -> Tensors:
    """From `[sum(counts), ...]` every rank gets its own n lines, once from each rank: W tensors `[n, ...]`."""
    if ranks.size == 1:
        return (lines,)
    own = counts[ranks.rank]
    received = lines.new_empty((ranks.size * own, *lines.shape[1:]))
    dist.all_to_all_single(received, lines.contiguous(), [own] * ranks.size, list(counts), group=ranks.group)
    return received.split(own) if own else (received,) * ranks.size


class Passing(NamedTuple):
    """Tensors on their way to the next rank, and others on their way here."""

    works: list[Any]
    sent: Tensors  # alive until they are sent
    received: Tensors

    def wait(self) -> Tensors:
        for work in self.works:
            work.wait()
        return self.received


def pass_on(sent: Tensors, received: Tensors, ranks: Ranks) -> Passing:
    """Start sending to the next rank of the ring and filling `received` from the one before."""
    sent = tuple(tensor.contiguous() for tensor in sent)
    # both ends know the sizes: what is empty is not sent
    operations = [
        dist.P2POp(operation, tensor, ranks.neighbour(step), ranks.group)
        for operation, tensors, step in ((dist.isend, sent, 1), (dist.irecv, received, -1))
        for tensor in tensors
        if tensor.numel()
    ]
    return Passing(dist.batch_isend_irecv(operations) if operations else [], sent, received)


class SumOverRanks(Rule):
    """`SumOverRanks.apply(small, ranks)`: all-reduce forward, and of the upstream gradients backward."""

    @staticmethod
    def run(value: Tensor, ranks: Ranks) -> tuple[tuple[Tensor], tuple[()]]:
        return (_all_reduced(value, ranks),), ()

    @staticmethod
    def keep(ctx: Any, args: tuple[Tensor, Ranks], *_: Any) -> None:
        ctx.ranks = args[1]

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        refuse_batched_backward()
        (total,) = SumOverRanks.apply(upstream, ctx.ranks)
        return total, None


def _all_reduced(value: Tensor, ranks: Ranks) -> Tensor:
    total = value.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total, group=ranks.group)
    return total


def _padded(lines: Tensor, height: int) -> Tensor:
    if lines.shape[0] == height:
        return lines.contiguous()
    return torch.cat((lines, lines.new_zeros((height - lines.shape[0], *lines.shape[1:]))))

"""Bytes that a step moves, by strategy: a model, checked against the loopback interface: `python -m bench.comm`.

The model counts what one rank sends in forward and backward of the symmetric CLIP loss, both towers trained, n pairs of
D numbers on each of W ranks. A collective costs what its ring algorithm costs. gloo does a reduce-scatter as an
all-reduce, which sends twice as much: the check takes that into account, the predictions do not.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
from pathlib import Path
from typing import NamedTuple

import torch
import torch.distributed as dist

from bench.machine import machine_info
from contrastive_ops import distributed
from contrastive_ops.testing import make_pairs

STRATEGIES = ("gather", "ring", "shard", "grouped")
STATISTIC = 4  # bytes of a statistic, and of a number of a travelling gradient
OPTIONS = 4 * 8  # the header by which ranks agree
MEAN = 2 * 8  # sum and count of the losses


class Setting(NamedTuple):
    """One step of one strategy."""

    world: int
    lines: int  # pairs of a rank
    embedding: int
    group: int = 8  # ranks of a group, for "grouped"
    feature_bytes: int = 4  # of a number on the wire
    frozen: bool = False  # the travelling tower

    def meeting(self, strategy: str) -> int:
        """Ranks whose lines meet."""
        return min(self.group, self.world) if strategy == "grouped" else self.world


class Sent(NamedTuple):
    """Bytes that one rank sends in a step."""

    features: float
    gradients: float
    lines: float  # what is O(1) of a line: lse, sums and their upstream gradients
    agreement: float

    @property
    def total(self) -> float:
        return sum(self)


def sent_bytes(strategy: str, setting: Setting, *, reduce_scatter: float = 1.0) -> Sent:
    """`reduce_scatter`: how many times the bytes of a ring reduce-scatter the backend sends for one."""
    world, lines, embedding, _, feature_bytes, frozen = setting
    meeting = setting.meeting(strategy)
    others = meeting - 1
    features = lines * embedding * feature_bytes
    gradients = 0 if frozen else lines * embedding * STATISTIC
    line = lines * STATISTIC
    agreement = (world - 1) * OPTIONS + 2 * (world - 1) / world * MEAN
    if strategy == "ring":
        # forward and backward; what comes home takes one step more. Home: lse and sum; along: lse and two gradients
        return Sent(2 * others * features, meeting * gradients, (2 * meeting + 3 * others) * line, agreement)
    # home: lse all-to-all, sum by reduce-scatter; along: one all-gather
    return Sent(others * features, reduce_scatter * others * gradients, (4 + reduce_scatter) * others * line, agreement)


def held_bytes(strategy: str, setting: Setting) -> int:
    """Of a rank at its peak: other ranks' features and gradients for them, without inputs, their own gradients and what
    the backend needs for a block of scores of this many columns."""
    features = setting.lines * setting.embedding * setting.feature_bytes
    gradients = 0 if setting.frozen else setting.lines * setting.embedding * STATISTIC
    if strategy == "ring":
        return 2 * features + 4 * gradients  # at work, arriving; share, arrived, sum, leaving
    meeting = setting.meeting(strategy)
    return meeting * (features + gradients) + gradients


# --- the check ----------------------------------------------------------------------------------------------------


def _loopback_bytes() -> int:
    with open("/proc/net/dev") as interfaces:
        return next(int(line.split()[1]) for line in interfaces if line.strip().startswith("lo:"))


def _measure(rank: int, setting: Setting, strategy: str, steps: int, directory: str) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    store = f"file://{directory}/{strategy}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=setting.world)
    images, texts = (x.requires_grad_() for x in make_pairs(setting.lines, setting.embedding, seed=rank))
    group_size = setting.group if strategy == "grouped" else None

    def step() -> None:
        distributed.clip_loss(images, texts, 20.0, strategy=strategy, group_size=group_size).backward()

    step()  # connects
    dist.barrier()
    before = _loopback_bytes()
    dist.barrier()
    for _ in range(steps):
        step()
    dist.barrier()
    if rank == 0:
        sent = (_loopback_bytes() - before) / steps / setting.world
        Path(directory, f"{strategy}.bytes").write_text(str(sent))
    dist.barrier()
    dist.destroy_process_group()


def counted_bytes(strategy: str, setting: Setting, steps: int = 5) -> float:
    """Bytes over the loopback interface for one rank and step: everything, headers of TCP included. Other programs that
    use the interface meanwhile are counted too."""
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as directory:
        ranks = [
            context.Process(target=_measure, args=(rank, setting, strategy, steps, directory))
            for rank in range(setting.world)
        ]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join()
        return float(Path(directory, f"{strategy}.bytes").read_text())


def check_table(setting: Setting) -> str:
    """Model against loopback, Markdown."""
    lines = ["| strategy | model | counted | counted / model |", "|---|---|---|---|"]
    for strategy in STRATEGIES:
        model = sent_bytes(strategy, setting, reduce_scatter=2.0).total
        counted = counted_bytes(strategy, setting)
        lines.append(f"| `{strategy}` | {_size(model)} | {_size(counted)} | {counted / model:.3f} |")
    return "\n".join(lines)


def scaling_table(lines_of_rank: int, embedding: int, feature_bytes: int) -> str:
    """The model, towards 1024 ranks, Markdown."""
    lines = ["| ranks | pairs | " + " | ".join(f"`{strategy}` sends / holds" for strategy in STRATEGIES) + " |"]
    lines.append("|---|---|" + "---|" * len(STRATEGIES))
    for world in (8, 32, 128, 512, 1024):
        setting = Setting(world, lines_of_rank, embedding, feature_bytes=feature_bytes)
        cells = [
            f"{_size(sent_bytes(strategy, setting).total)} / {_size(held_bytes(strategy, setting))}"
            for strategy in STRATEGIES
        ]
        lines.append(f"| {world} | {world * lines_of_rank} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _size(number: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.3g} {unit}" if number < 1000 else f"{number:.0f} {unit}"
        number /= 1024
    return f"{number:.3g} GiB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--lines", type=int, default=1024, help="pairs of a rank in the check")
    parser.add_argument("--embedding", type=int, default=256)
    arguments = parser.parse_args()
    machine = machine_info(threads=1)
    print(f"Counted: 4 gloo processes, groups of 2, {machine['cpu']}, torch {machine['torch']}, {machine['date']}\n")
    print(check_table(Setting(4, arguments.lines, arguments.embedding, group=2)))
    print("\nA model, not measured: 128 pairs of D = 1024 on each rank, bfloat16 on the wire, groups of 8\n")
    print(scaling_table(128, 1024, feature_bytes=2))


if __name__ == "__main__":
    main()

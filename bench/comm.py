"""Bytes that a step moves, by strategy: a model, checked against the loopback interface: `python -m bench.comm`.

The model is `contrastive_ops.testing.traffic`. gloo does a reduce-scatter as an all-reduce, which sends twice as much:
the check takes that into account, the predictions do not.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist

from bench.machine import machine_info
from contrastive_ops import distributed
from contrastive_ops.testing import make_pairs
from contrastive_ops.testing.traffic import STRATEGIES, Setting, held_bytes, sent_bytes


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

"""What must be refused on every rank, and ranks that die: `python distributed_failures.py` kills some and reports."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from distributed_ranks import start
from torch import Tensor

from contrastive_ops import distributed, same

# --- bad input, on one rank of three ------------------------------------------------------------------------------


def features(rank: int, d: int = 8, **options: Any) -> Tensor:
    return torch.randn(4, d, generator=torch.Generator().manual_seed(rank), **options)


def clip(rank: int, first: Tensor | None = None, **options: Any) -> Tensor:
    first = features(rank) if first is None else first
    second = torch.flip(first, [0]) if isinstance(first, Tensor) else first
    return distributed.clip_loss(first, second, 3.0, **{"strategy": "gather"} | options)


REFUSED: dict[str, Callable[[int], object]] = {
    "embedding size": lambda rank: clip(rank, features(rank, d=(8, 8, 9)[rank])),
    "dtype": lambda rank: clip(rank, features(rank, dtype=(torch.float32, torch.float64, torch.float32)[rank])),
    "strategy": lambda rank: clip(rank, strategy=("gather", "ring", "gather")[rank]),
    "unknown strategy": lambda rank: clip(rank, strategy=("gather", "gather", "scatter")[rank]),
    "function": lambda rank: clip(rank) if rank else distributed.info_nce(features(0), features(0), strategy="gather"),
    "gradient": lambda rank: clip(rank, features(rank).requires_grad_(rank != 1)),
    "label smoothing": lambda rank: clip(rank, label_smoothing=(0.1, 0.1, 0.2)[rank]),
    "grad_reduction": lambda rank: clip(rank, grad_reduction=("mean", "sum", "mean")[rank]),
    "wire dtype": lambda rank: clip(rank, wire_dtype=(None, None, torch.float16)[rank]),
    "groups": lambda rank: clip(rank, strategy="grouped", groups=[[0, 1], [2]] if rank else [[0], [1, 2]]),
    "relation": lambda rank: clip(rank, negatives=same(torch.arange(4)) if rank == 1 else None),
    "not a tensor": lambda rank: clip(rank, [1.0] if rank == 1 else None),
    "ids of another length": lambda rank: distributed.sup_con(
        features(rank), torch.arange(4 if rank else 5), strategy="ring"
    ),
    "backend": lambda rank: clip(rank, backend="triton_not" if rank == 2 else None),
    "all alike": lambda rank: clip(rank, strategy="grouped", group_size=2),
    "group size missing": lambda rank: clip(rank, strategy="grouped"),
    "group size unused": lambda rank: clip(rank, group_size=3),
    "groups overlap": lambda rank: clip(rank, strategy="grouped", groups=[[0, 1], [1, 2]]),
    "wire dtype unknown": lambda rank: clip(rank, wire_dtype=torch.int8),
    "grad_reduction unknown": lambda rank: clip(rank, grad_reduction="average"),
}


def run(rank: int, world: int) -> dict[str, tuple[str, str]]:
    """(type, text) of every error; after each, the same ranks still work together."""
    found = {}
    for name, call in REFUSED.items():
        try:
            call(rank)
            found[name] = ("nothing", "")
        except Exception as error:
            found[name] = (type(error).__name__, str(error))
        clip(rank)
    return found


# --- ranks that die -----------------------------------------------------------------------------------------------

TIMEOUT = timedelta(seconds=5)
DEATHS = [(strategy, "SIGKILL") for strategy in ("gather", "ring", "shard", "grouped")]
DEATHS += [("gather", "SIGSTOP"), ("ring", "SIGSTOP"), ("grouped", "SIGSTOP")]
WORLD, VICTIM = 3, 1
RAISED = 7


def work_until_error(rank: int, strategy: str, directory: Path) -> None:
    """Steps until one of them raises a RuntimeError, which ends the process with `RAISED`, or the parent is gone."""
    parent = os.getppid()
    try:
        start(rank, WORLD, directory / "store", TIMEOUT)
        groups = [[0, 1], [2]] if strategy == "grouped" else None
        for step in itertools.count():
            if os.getppid() != parent:
                return
            clip(rank, features(rank).requires_grad_(), strategy=strategy, groups=groups).backward()
            if step == 2:
                (directory / f"working{rank}").touch()
            if step > 2 and not (directory / "turn").exists():
                time.sleep(0.05)  # the deaths come one after another
    except RuntimeError as error:
        print(strategy, rank, error, file=sys.stderr)
        os._exit(RAISED)


def main() -> dict[str, Any]:
    """Of every death: the exit codes of the others, and the seconds until the last of them ended."""
    worlds = {}
    for strategy, death in DEATHS:
        directory = Path(tempfile.mkdtemp())
        pids = []
        for rank in range(WORLD):
            pid = os.fork()
            if pid == 0:
                work_until_error(rank, strategy, directory)
                os._exit(1)
            pids.append(pid)
        worlds[f"{strategy}-{death}"] = directory, pids
    report: dict[str, Any] = {}
    for name, (directory, pids) in worlds.items():
        while len(list(directory.glob("working*"))) < WORLD:
            time.sleep(0.05)
        (directory / "turn").touch()
        time.sleep(0.2)  # it is killed in the middle of its steps
        os.kill(pids[VICTIM], getattr(signal, name.partition("-")[2]))
        begin = time.monotonic()
        others = [pid for rank, pid in enumerate(pids) if rank != VICTIM]
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in others]
        report[name] = {"codes": codes, "seconds": time.monotonic() - begin}
        if name.endswith("STOP"):
            os.kill(pids[VICTIM], signal.SIGKILL)
    return report


if __name__ == "__main__":
    print(json.dumps(main()))

"""Runs a function of a module here in several processes: `python distributed_ranks.py MODULE:FUNCTION WORLD DIR`.

Results are files in the directory, one of each rank. The processes are forks of one that has imported everything but
run nothing, which costs one import for all of them.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

HERE = Path(__file__).resolve().parent
TIMEOUT = timedelta(seconds=60)


def run(function: str, world: int, directory: Path, timeout: float = 300.0) -> None:
    """Run `function(rank, world)` on every rank; what it returns and what it prints stay in the directory."""
    with open(directory / "output.txt", "w") as output:
        command = [sys.executable, str(HERE / "distributed_ranks.py"), function, str(world), str(directory)]
        # memory that dies goes back to the system at once, so that peaks are those of what is alive
        environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(1 << 16), "PYTHONPATH": str(HERE.parent)}
        subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, timeout=timeout, env=environment)


def results(directory: Path, world: int) -> list[Any]:
    """What the function returned on every rank; AssertionError with the output where it did not."""
    files = [_result(directory, rank) for rank in range(world)]
    assert all(file.exists() for file in files), (directory / "output.txt").read_text()
    return [torch.load(file) for file in files]


def start(rank: int, world: int, store: Path, timeout: timedelta = TIMEOUT) -> None:
    """Join the default group, with one thread."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world, timeout=timeout)


def _result(directory: Path, rank: int) -> Path:
    return directory / f"rank{rank}.pt"


def _main(function: str, world: int, directory: Path) -> int:
    module, name = function.split(":")
    work = getattr(importlib.import_module(module), name)
    children = []
    for rank in range(world):
        child = os.fork()
        if child == 0:
            start(rank, world, directory / "store")
            torch.save(work(rank, world), _result(directory, rank))
            dist.destroy_process_group()
            sys.stdout.flush()
            os._exit(0)  # taking down an interpreter with torch in it costs a second
        children.append(child)
    return max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0 for child in children)


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))

"""The document's code and the example run, and give the same loss on every rank."""

import re
import subprocess
import sys
from pathlib import Path

from distributed_documents import run

EXAMPLE = Path(__file__).parent.parent / "examples" / "distributed_clip.py"


def test_code_of_the_document(ranks_of):
    first, second = ranks_of(run, 2)
    assert len(first) == 3 and first == second and all(value > 0 for value in first)


def test_example_trains_as_one_process_does():
    arguments = ["--strategy", "ring", "--micro-batch", "16", "--batch", "64", "--steps", "8"]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", str(EXAMPLE), *arguments],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    difference = re.search(r"largest relative difference of 8 steps: (\S+)", done.stdout)
    assert difference is not None and float(difference[1]) <= 2e-6, done.stdout

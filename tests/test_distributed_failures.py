"""Ranks that differ raise on every rank and name the rank; a rank that dies ends the others; nothing hangs."""

import json
import subprocess
import sys
from pathlib import Path

import distributed_failures
import pytest
import torch
from distributed_failures import DEATHS, RAISED, REFUSED, TIMEOUT

from contrastive_ops import distributed

WORLD = 3
# what the message says on every rank
DIFFER = {
    "embedding size": "embedding size D, expected the same on every rank, got 8 on rank 0, 1, 9 on rank 2",
    "dtype": "dtype of the features, expected the same on every rank, got torch.float32 on rank 0, 2, torch.float64 on",
    "strategy": "strategy, expected the same on every rank, got gather on rank 0, 2, ring on rank 1",
    "function": "function, expected the same on every rank, got info_nce on rank 0, clip_loss on rank 1, 2",
    "gradient": "require grad, expected the same on every rank, got ('queries', 'keys') on rank 0, 2, () on rank 1",
    "label smoothing": "label_smoothing, expected the same on every rank, got 0.1 on rank 0, 1, 0.2 on rank 2",
    "grad_reduction": "grad_reduction, expected the same on every rank, got mean on rank 0, 2, sum on rank 1",
    "wire dtype": "wire_dtype, expected the same on every rank, got None on rank 0, 1, torch.float16 on rank 2",
    "groups": "groups, expected the same on every rank, got ((0,), (1, 2)) on rank 0, ((0, 1), (2,)) on rank 1, 2",
    "relation": "form of the problem, expected the same on every rank",
}
# the rank that refuses its input, and what it says; the others name it
REFUSES = {
    "unknown strategy": (2, "ValueError", "strategy must be one of gather, ring, shard, grouped, got 'scatter'"),
    "not a tensor": (1, "TypeError", "must be a torch.Tensor, got list"),
    "ids of another length": (0, "ValueError", "labels must have shape [4], got (5,)"),
    "backend": (2, "ValueError", "backend must be one of"),
}
ALL_REFUSE = {
    "all alike": "group_size must divide the 3 ranks, got 2",
    "group size missing": "needs either group_size or groups, got group_size=None, groups=None",
    "group size unused": 'group_size and groups belong to strategy "grouped"',
    "groups overlap": "groups must hold every rank of 0..2 exactly once, got [[0, 1], [1, 2]]",
    "wire dtype unknown": "wire_dtype must be None, torch.float16 or torch.bfloat16, got torch.int8",
    "grad_reduction unknown": "grad_reduction must be one of mean, sum, got 'average'",
}


@pytest.mark.parametrize("name", REFUSED)
def test_all_ranks_raise(name, ranks_of):
    for rank, found in enumerate(ranks_of(distributed_failures.run, WORLD)):
        kind, text = found[name]
        if name in REFUSES:
            culprit, its_kind, its_words = REFUSES[name]
            assert its_words in text
            assert kind == (its_kind if rank == culprit else "ValueError")
            assert rank == culprit or text.startswith(f"rank {culprit} refused its input: {its_kind}: ")
        else:
            assert kind == "ValueError"
            assert (DIFFER | ALL_REFUSE)[name] in text


@pytest.fixture(scope="module")
def deaths():
    script = Path(distributed_failures.__file__)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_dead_rank_ends_the_others(deaths):
    """Killed: its connections close. Stopped: it is silent, and the timeout of the group, 5 s, must do it."""
    assert deaths.keys() == {"-".join(death) for death in DEATHS}
    for name, report in deaths.items():
        assert report["codes"] == [RAISED] * (WORLD - 1), name
        # the second rank may wait for the first, which has timed out
        assert report["seconds"] <= 2 * TIMEOUT.total_seconds() + 10, name


def test_without_a_process_group():
    x = torch.eye(3)
    with pytest.raises(ValueError, match=r"torch\.distributed is not initialised, expected a process group: call"):
        distributed.clip_loss(x, x.clone(), 1.0, strategy="gather")

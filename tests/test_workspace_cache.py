"""Blocks of workspace come back: a loop of one loss, or of several in turn, maps no memory after a few steps."""

import resource

import numpy as np
import pytest
import torch

from contrastive_ops import clip_loss, info_nce, nt_xent, packed_info_nce, sup_con
from contrastive_ops.backends.cpu import native, release_workspace
from contrastive_ops.testing import make_pairs

PAGE = 4096
LOSSES = {
    "clip_loss": lambda x, y: clip_loss(x, y, 10.0),
    "info_nce": lambda x, y: info_nce(x, y, workspace_bytes=1 << 20),  # three panels
    "nt_xent": nt_xent,
    "sup_con": lambda x, y: sup_con(x, torch.arange(len(x)) % 10),
    "few rows": lambda x, y: packed_info_nce(x[:24], y),
}


@pytest.fixture
def faults(monkeypatch):
    """The page faults that touching every page of every block has taken, so far."""
    counted = [0]

    def touched(size):
        block = native.extension.Block(size)
        pages = np.frombuffer(block, np.uint8)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        pages[::PAGE] = 0
        counted[0] += resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
        return block

    monkeypatch.setattr(native, "new_block", touched)
    release_workspace()
    yield counted
    release_workspace()


@pytest.mark.parametrize("names", [*([name] for name in LOSSES), list(LOSSES)], ids="+".join)
def test_a_loop_settles(names, faults):
    x, y = make_pairs(600, 32)
    taken = []
    for _ in range(6):
        before = faults[0]
        for name in names:
            LOSSES[name](x.requires_grad_(), y.requires_grad_()).backward()
        taken.append(faults[0] - before)
    assert taken[0] > 0
    assert min(taken[2:]) == 0  # the kernel may take a page away, but not in every step


def test_what_is_not_asked_for_goes_back(faults):
    """A large block does not outlive many requests for small ones."""
    large = 64 << 20
    native.new_block(large)
    before = faults[0]
    native.new_block(large)
    assert faults[0] == before
    for _ in range(40):
        native.new_block(PAGE)
    native.new_block(large)
    assert faults[0] > before

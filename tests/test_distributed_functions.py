"""Losses over several processes by torch.func and under checkpoints: every rank gets the gradients of autograd, or all
of them our message, and nobody waits for the others."""

import pytest
import torch
from distributed_functions import STRATEGIES, run
from distributed_losses import LOSSES

WORLD = 2


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", LOSSES)
def test_every_rank(name, strategy, ranks_of):
    for of_rank in ranks_of(run, WORLD):
        expected, by_function, recomputed, refusals = of_rank[f"{name}-{strategy}"]
        torch.testing.assert_close(by_function, expected, rtol=0, atol=0)
        torch.testing.assert_close(recomputed, expected, rtol=0, atol=0)
        assert ["got forward mode" in refusals[0], "got vmap" in refusals[1]] == [True, True], refusals

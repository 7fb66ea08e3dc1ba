"""The communication model gives, to the byte, what a step hands to the collectives."""

import pytest
from distributed_traffic import SETTINGS, WORLD, run

from contrastive_ops.testing.traffic import STRATEGIES, Setting, held_bytes, sent_bytes


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", SETTINGS)
def test_bytes_of_a_step(name, strategy, ranks_of):
    model = sent_bytes(strategy, SETTINGS[name])
    assert [found[f"{name}-{strategy}"] for found in ranks_of(run, WORLD)] == [model.total] * WORLD


def test_predictions():
    """What the strategies are for: a ring that holds the same at any size, groups that also send the same."""
    small, large = (Setting(world, 128, 1024, group=8, feature_bytes=2) for world in (64, 1024))
    assert held_bytes("ring", small) == held_bytes("ring", large)
    assert held_bytes("gather", large) > 15 * held_bytes("gather", small)
    assert sent_bytes("grouped", large).features == sent_bytes("grouped", small).features
    assert sent_bytes("gather", large).features == 1023 * 128 * 1024 * 2

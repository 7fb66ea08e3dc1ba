"""The ring's memory is that of this rank's lines, whatever the number of ranks."""

from distributed_memory import FEATURES_BYTES, run


def test_memory_of_the_ring_does_not_grow(ranks_of):
    # with four ranks there is a turn at which lines and gradients arrive, are worked on and leave
    four, five = (
        {strategy: max(of_rank[strategy] for of_rank in ranks_of(run, world)) for strategy in ("ring", "gather")}
        for world in (4, 5)
    )
    assert five["ring"] <= four["ring"] + FEATURES_BYTES / 2, (four, five)
    # gathering holds the features of one more rank and their gradients: the measure would see that of the ring
    assert five["gather"] >= four["gather"] + 2 * FEATURES_BYTES, (four, five)

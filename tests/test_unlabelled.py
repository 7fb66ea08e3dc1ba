"""Class label -1 is no class: such an anchor has loss 0, is not counted in the mean, and stays a negative of others."""

import pytest
import torch
from public_calls import CALLS, mapped, outcome, with_argument

from contrastive_ops import different, nspt, same, similarity_statistics, sup_con

LABELS = torch.tensor([0, -1, 1, 0, -1, 2, 1, 0, -1, 3, 2, -1])
ALONE = torch.where(LABELS == -1, 100 + torch.arange(12), LABELS)  # as if each were the only one of its class
WITH_LABELS = [name for name in with_argument("labels") if name != "nspt"]  # of nspt an anchor is its own positive


@pytest.mark.parametrize("mean", ["outside", "inside"])
@pytest.mark.parametrize("name", WITH_LABELS)
def test_an_unlabelled_item_is_alone(name, mean, one_rank):
    call = CALLS[name]
    options = {} if name.startswith("distributed") else {"mean": mean}
    found, expected, classes = (
        outcome(call, call.arguments() | options | labels)
        for labels in ({"labels": LABELS}, {"labels": ALONE}, {"labels": LABELS, "ignore_index": -100})
    )
    torch.testing.assert_close(found, expected)
    assert not torch.equal(found[0], classes[0])


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int8])
def test_losses_of_unlabelled_anchors_are_zero_and_not_counted(dtype, backend):
    features = torch.randn(12, 8)
    losses = sup_con(features, LABELS.to(dtype), reduction="none", backend=backend)
    counted = (LABELS >= 0) & (LABELS != 3)
    assert (losses[~counted] == 0).all() and (losses[counted] > 0).all()
    torch.testing.assert_close(sup_con(features, LABELS, backend=backend), losses[counted].mean())


def test_another_number_is_ignored():
    features = torch.randn(12, 8)
    shifted = torch.where(LABELS == -1, 255, LABELS)
    assert torch.equal(sup_con(features, shifted, ignore_index=255), sup_con(features, LABELS))
    # exactly that number: 255 is not -1 in a type that has no -1
    narrow, wide = (sup_con(features, shifted.to(dtype)) for dtype in (torch.uint8, torch.int64))
    assert torch.equal(narrow, wide) and narrow != sup_con(features, LABELS)


@pytest.mark.parametrize("anchors", [None, torch.tensor([1, 0, 7, 4, 10])], ids=["all", "some"])
def test_nspt_counts_labelled_anchors(anchors, backend):
    arguments = CALLS["nspt"].arguments() | {"anchors": anchors, "backend": backend}
    one_by_one = nspt(**arguments | {"labels": ALONE, "reduction": "none"})
    counted = LABELS[torch.arange(12) if anchors is None else anchors] != -1
    losses = nspt(**arguments | {"labels": LABELS, "reduction": "none"})
    torch.testing.assert_close(losses, one_by_one.where(counted, 0.0))
    torch.testing.assert_close(nspt(**arguments | {"labels": LABELS}), one_by_one[counted].mean())


def test_nothing_labelled_gives_zero_without_gradient(one_rank):
    for name in with_argument("labels"):
        call = CALLS[name]
        nothing = outcome(call, mapped(call.arguments(), lambda x: x) | {"labels": torch.full((12,), -1)})
        assert all((x == 0).all() for x in nothing), name


def test_ids_of_relations_are_any_number():
    """Hashes are negative half of the time, and -1 like any other."""
    x = torch.randn(12, 8)
    found = similarity_statistics(x, x, candidates=different(LABELS), positives=same(LABELS))
    expected = similarity_statistics(x, x, candidates=different(LABELS + 7), positives=same(LABELS + 7))
    assert torch.equal(found.row_lse, expected.row_lse) and torch.equal(found.row_sum, expected.row_sum)

"""sup_con against the dense formula in float64."""

import dense_losses
import pytest
import torch
from comparison import check_loss, gradients

from contrastive_ops import sup_con
from contrastive_ops.problem import statistics_dtype
from contrastive_ops.testing import make_pairs

# labels of n items: how many classes there are decides how many anchors have a positive
LABELS = {
    "few_classes": lambda n: torch.arange(n) % 3,
    "some_alone": lambda n: torch.randint(n, (n,), generator=torch.Generator().manual_seed(4)),
    "all_alone": lambda n: torch.arange(n).flip(0) - 5,
    "one_class": lambda n: torch.full((n,), -7, dtype=torch.int32),
}


def leaves_for(n, d, dtype, labels):
    features = make_pairs(n, d, dtype)[0].requires_grad_()
    # warm enough for losses of order 1: L_out is a difference, and what cancels in it is lost by every algorithm
    temperature = torch.tensor(0.5, dtype=statistics_dtype(dtype)).requires_grad_()
    return {"features": features, "temperature": temperature, "labels": labels}


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("n, d", [(1, 4), (5, 3), (130, 64), (400, 100)])
def test_values_and_gradients(n, d, labels, reduction, dtype, backend):
    reduce = {"none": lambda x, _: x, "sum": lambda x, _: x.sum(), "mean": dense_losses.sup_con_mean}[reduction]

    def ours(x):
        return sup_con(x["features"], x["labels"], temperature=x["temperature"], reduction=reduction, backend=backend)

    def dense(x):
        return reduce(dense_losses.sup_con(x["features"], x["labels"], x["temperature"]), x["labels"])

    check_loss(ours, dense, dense, leaves_for(n, d, dtype, labels(n)), dtype, backend)


def test_anchor_without_positive_has_loss_zero_and_is_not_counted(backend):
    features = make_pairs(3, 4)[0].requires_grad_()
    labels = torch.tensor([8, 3, 8])
    losses = sup_con(features, labels, reduction="none", backend=backend)
    assert losses[1] == 0 and losses[0] > 0 and losses[2] > 0
    torch.testing.assert_close(
        sup_con(features, labels, backend=backend), (losses[0] + losses[2]) / 2, rtol=1e-6, atol=0
    )


def test_all_anchors_alone_give_zero_gradient(backend):
    features = make_pairs(4, 4)[0].requires_grad_()
    value, grads = gradients(lambda x: sup_con(x["f"], torch.arange(4), backend=backend), {"f": features})
    assert value == 0 and (grads["f"] == 0).all()

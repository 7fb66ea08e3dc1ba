"""SwALIP of confident pairs, whose target and score are both near the scale: no digit is lost to their difference."""

import pytest
import torch
from comparison import cast, gradients
from conftest import without_gpu_kernels
from objectives.soft_targets import dense_swalip

from contrastive_ops import swalip_loss
from contrastive_ops.testing import TOLERANCES, make_confident_pairs, make_pairs, norm_error

# pairs, scale, epsilon: per-pair losses of about 0.5, 4e-8 and 1e-5
CONFIDENT = {
    "half_way": (make_pairs, 50.0, 0.05),
    "sure_targets": (make_pairs, 50.0, 0.01),
    "memorised": (make_confident_pairs, 100.0, 0.01),
}


@without_gpu_kernels
@pytest.mark.parametrize("name", CONFIDENT)
def test_is_no_less_exact_than_the_stored_scores(name, backend):
    make, scale, epsilon = CONFIDENT[name]
    image, text = make(300, 512)
    leaves = {"image": image.requires_grad_(), "text": text.requires_grad_()}

    def ours(x):
        targets = image.detach(), text.detach()
        return swalip_loss(x["image"], x["text"], scale, *targets, epsilon=epsilon, reduction="none", backend=backend)

    def dense(x):
        targets = x["image"].detach(), x["text"].detach()
        return dense_swalip(x["image"], x["text"], scale, *targets, epsilon=epsilon)

    (value, grads), (plain, plain_grads) = gradients(ours, leaves), gradients(dense, leaves)
    truth, true_grads = gradients(dense, cast(leaves, torch.float64))
    # targets of float32 have errors of a few units in the last place of their scores, 50 here
    tolerance = 4 * TOLERANCES[torch.float32].value
    assert norm_error(value, truth) <= norm_error(plain, truth) + tolerance
    for key in grads:
        assert norm_error(grads[key], true_grads[key]) <= norm_error(plain_grads[key], true_grads[key]) + tolerance

"""Targets that are spread over several candidates."""

import torch

from contrastive_ops import clip_rocket_loss, cwcl, mixup_clip_loss, softmax_mean, swalip_loss
from objectives.pairs import dense_clip
from objectives.table import N, Objective, inputs, unit


def dense_cwcl(queries, keys, temperature):
    scores = queries @ keys.mT / temperature
    weights = (keys @ keys.mT).detach() / 2 + 0.5
    rows = -(weights * scores.log_softmax(1)).sum(1) / weights.sum(1)
    return rows - scores.mT.log_softmax(1).diag()


def dense_mixup(mixed, keys, partner, share, temperature):
    scores, n = mixed @ keys.mT / temperature, len(mixed)
    own, other = torch.eye(n, dtype=share.dtype), torch.eye(n, dtype=share.dtype)[partner]
    targets = (share[:, None] * own + (1 - share)[:, None] * other).to(scores.dtype)
    return -(targets * (scores.log_softmax(1) + scores.log_softmax(0))).sum(1) / 2


def sinkhorn(similarity, epsilon, iterations):
    """The authors' loop over a stored matrix; ends with rows that sum to 1."""
    q = (similarity / epsilon).exp().mT
    for _ in range(iterations):
        q = q / q.sum(1, keepdim=True)
        q = q / q.sum(0, keepdim=True)
    return q.mT


def dense_swalip(image_features, text_features, logit_scale, target_image, target_text, epsilon=0.05, iterations=3):
    scores, similarity = logit_scale * image_features @ text_features.mT, (target_image @ target_text.mT).detach()
    rows = (sinkhorn(similarity, epsilon, iterations) * scores.log_softmax(1)).sum(1)
    columns = (sinkhorn(similarity.mT, epsilon, iterations) * scores.mT.log_softmax(1)).sum(1)
    return -(rows + columns) / 2


def dense_clip_rocket(
    image_features, text_features, logit_scale, image_views, text_views, view_scale, label_smoothing=0.1
):
    views = [dense_clip(x, y, view_scale, label_smoothing) for x in image_views for y in text_views]
    total, a = dense_clip(image_features, text_features, logit_scale), len(image_views)
    return (total + a * torch.stack(views).mean(0)) / (1 + a) if a else total


def dense_softmax_mean(queries, keys, values, bias):
    return (2.0 * queries.detach() @ keys.detach().mT + bias.detach()).softmax(1) @ values


PARTNER = torch.arange(N).roll(1).where(torch.arange(N) % 3 > 0, torch.arange(N).flip(0))  # no permutation
SHARE = torch.rand(N, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
SHARE[::4] = 1.0
MIXED = {"mixed": (), "keys": (), "temperature": 0.4}
VIEWS = {"image_features": (), "text_features": (), "logit_scale": 5.0}
TARGETS = inputs(**VIEWS, target_image=(), target_text=())

OBJECTIVES = {
    "cwcl": Objective(cwcl, dense_cwcl, inputs(queries=(), keys=(), temperature=0.4)),
    "cwcl_one": Objective(cwcl, dense_cwcl, inputs(n=1, queries=(), keys=(), temperature=0.4), terms=2.5),
    "mixup": Objective(mixup_clip_loss, dense_mixup, inputs(**MIXED, partner=PARTNER, share=SHARE)),
    "mixup_self": Objective(
        mixup_clip_loss, dense_mixup, inputs(**MIXED, partner=torch.arange(N), share=SHARE.clone()), terms=2.5
    ),
    "mixup_one": Objective(
        mixup_clip_loss,
        dense_mixup,
        inputs(n=1, **MIXED, partner=torch.zeros(1, dtype=int), share=SHARE[1:2]),
        terms=2.5,
    ),
    "swalip": Objective(swalip_loss, dense_swalip, TARGETS),
    "swalip_once": Objective(swalip_loss, dense_swalip, TARGETS, {"iterations": 1, "epsilon": 0.3}, half=False),
    "swalip_other_width": Objective(
        swalip_loss, dense_swalip, inputs(**VIEWS, target_image=unit(N, 3, seed=8), target_text=unit(N, 3, seed=9))
    ),
    "swalip_one": Objective(
        swalip_loss, dense_swalip, inputs(n=1, **VIEWS, target_image=(), target_text=()), terms=5.0
    ),
    "clip_rocket": Objective(
        clip_rocket_loss, dense_clip_rocket, inputs(**VIEWS, image_views=(2,), text_views=(2,), view_scale=3.0)
    ),
    "clip_rocket_without_views": Objective(
        clip_rocket_loss, dense_clip_rocket, inputs(**VIEWS, image_views=(0,), text_views=(0,), view_scale=3.0)
    ),
    "softmax_mean": Objective(
        lambda queries, keys, values, bias, backend: softmax_mean(
            queries, keys, values, scale=2.0, col_bias=bias, backend=backend
        ),
        dense_softmax_mean,
        inputs(queries=(), keys=(), values=unit(N, 3, seed=8), bias=SHARE.clone()),
        reduces=False,
    ),
}

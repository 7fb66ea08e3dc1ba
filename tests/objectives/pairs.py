"""CLIP and what is CLIP with a switch: its directions, frozen sides, chosen negatives, own negatives."""

from functools import partial

import dense_losses
import torch

from contrastive_ops import clip_loss, different, info_nce, same
from objectives.table import FEW, SOME_ALONE, Objective, equal, inputs, off_diagonal


def dense_directions(image_features, text_features, logit_scale, label_smoothing=0.0, share=1.0):
    """Plain cross-entropies to smoothed targets, summed."""
    scores, n = logit_scale * image_features @ text_features.mT, len(image_features)
    targets = (1 - label_smoothing) * torch.eye(n, dtype=scores.dtype) + label_smoothing / n
    return -share * sum((targets * s.log_softmax(1)).sum(1) for s in (scores, scores.mT))


dense_clip = partial(dense_directions, share=0.5)


def dense_chosen(image_features, text_features, logit_scale, negatives):
    scores = logit_scale * image_features @ text_features.mT
    return sum(dense_losses.cross_entropy(s, s.diag(), negatives, True) for s in (scores, scores.mT)) / 2


def hq_clip(image, text, negative_text, logit_scale, backend, reduction):
    """The call of docs/losses.md."""
    options = {"backend": backend, "reduction": reduction}
    own = info_nce(image, text, temperature=1 / logit_scale, negatives=negative_text[:, None], **options)
    return clip_loss(image, text, logit_scale, **options) + 0.5 * own


def dense_hq_clip(image, text, negative_text, logit_scale):
    margin = logit_scale * ((image * negative_text).sum(1) - (image * text).sum(1))
    return dense_losses.clip(image, text, logit_scale) + 0.5 * torch.log1p(margin.exp())


PAIR = inputs(image_features=(), text_features=(), logit_scale=5.0)
ONE = inputs(n=1, image_features=(), text_features=(), logit_scale=5.0)

OBJECTIVES = {
    "clip": Objective(clip_loss, dense_clip, PAIR),
    "clip_smoothed": Objective(clip_loss, dense_clip, PAIR, {"label_smoothing": 0.1}),
    "coca": Objective(partial(clip_loss, directions="sum"), dense_directions, PAIR),
    # sigma is learnt and shared by both directions
    "align": Objective(
        lambda image_features, text_features, sigma, **options: clip_loss(
            image_features, text_features, 1 / sigma, label_smoothing=0.1, directions="sum", **options
        ),
        lambda image_features, text_features, sigma: dense_directions(image_features, text_features, 1 / sigma, 0.1),
        inputs(image_features=(), text_features=(), sigma=0.5),
    ),
    "one_smoothed": Objective(clip_loss, dense_clip, ONE, {"label_smoothing": 0.1}, terms=5.0),
    "lit": Objective(
        lambda image_features, **x: clip_loss(image_features.detach(), **x),
        lambda image_features, **x: dense_clip(image_features.detach(), **x),
        PAIR,
    ),
    "without_duplicates": Objective(
        lambda ids, **x: clip_loss(**x, negatives=different(ids)),
        lambda ids, **x: dense_chosen(**x, negatives=~equal(ids)),
        inputs(image_features=(), text_features=(), logit_scale=5.0, ids=SOME_ALONE),
    ),
    "in_clusters": Objective(
        lambda ids, **x: clip_loss(**x, negatives=same(ids)),
        lambda ids, **x: dense_chosen(**x, negatives=equal(ids) & off_diagonal(len(ids))),
        inputs(image_features=(), text_features=(), logit_scale=5.0, ids=SOME_ALONE),
    ),
    "in_clusters_without_duplicates": Objective(
        lambda ids, more_ids, **x: clip_loss(**x, negatives=same(ids) & different(more_ids)),
        lambda ids, more_ids, **x: dense_chosen(**x, negatives=equal(ids) & ~equal(more_ids)),
        inputs(image_features=(), text_features=(), logit_scale=5.0, ids=FEW, more_ids=SOME_ALONE),
    ),
    "hq_clip": Objective(hq_clip, dense_hq_clip, inputs(image=(), text=(), negative_text=(), logit_scale=5.0)),
}

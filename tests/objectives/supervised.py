"""Positives by labels and groups, and negatives chosen by ids."""

import dense_losses
import torch

from contrastive_ops import different, info_nce, multi_positive_clip_loss, nspt, same, sup_con
from objectives.table import (
    ALONE,
    FEW,
    SOME_ALONE,
    D,
    N,
    Objective,
    equal,
    inputs,
    lse,
    mean_where,
    off_diagonal,
    unit,
    zero_where_empty,
)


def dense_sup_con_inside(features, labels, temperature, mean):
    scores, others = features @ features.mT / temperature, off_diagonal(len(features))
    positives = equal(labels) & others & (labels != -1)
    count = positives.sum(1)
    losses = lse(scores, others) - (lse(scores, positives) - count.clamp(min=1).to(scores.dtype).log())
    return torch.where(count > 0, losses.masked_fill(count == 0, 0.0), 0.0)


def has_positive(labels, **inputs):
    return (equal(labels).sum(1) > 1) & (labels != -1)


def has_class(labels, anchors=None, **inputs):
    return (labels if anchors is None else labels[anchors]) != -1


def dense_nspt(student, teacher, labels, temperature, anchors=None, exclude_self=True):
    anchors = torch.arange(len(student)) if anchors is None else anchors
    scores = student[anchors] @ student.mT / temperature
    candidates = anchors[:, None] != torch.arange(len(student)) if exclude_self else torch.ones_like(scores, dtype=bool)
    to_teacher = student[anchors] @ teacher.detach()[anchors].mT / temperature
    losses = lse(scores, candidates) - mean_where(to_teacher, equal(labels[anchors]))
    return zero_where_empty(losses, candidates).where(has_class(labels, anchors), 0.0)


def dense_multi_positive(image_features, text_features, logit_scale, image_ids, text_ids):
    scores, positives = logit_scale * image_features @ text_features.mT, equal(image_ids, text_ids)
    rows = zero_where_empty(scores.logsumexp(1) - mean_where(scores, positives), positives)
    columns = zero_where_empty(scores.logsumexp(0) - mean_where(scores.mT, positives.mT), positives.mT)
    return torch.cat((rows, columns))


def multi_positive_counted(image_ids, text_ids, **inputs):
    return torch.cat((equal(image_ids, text_ids).any(1), equal(text_ids, image_ids).any(1)))


def sup_con_rows(labels):
    return inputs(features=(), labels=labels, temperature=0.4)


BANKS = inputs(student=(), teacher=(), labels=FEW, temperature=0.4)
SOME_ANCHORS = inputs(
    student=(), teacher=(), labels=SOME_ALONE, temperature=0.4, anchors=torch.tensor([3, 0, 20, 7, 8])
)
GROUPS = inputs(image_features=(), text_features=(), logit_scale=4.0, image_ids=FEW, text_ids=SOME_ALONE % 5)
RAGGED_GROUPS = inputs(
    image_features=(),
    text_features=unit(33, D, seed=7),
    logit_scale=4.0,
    image_ids=SOME_ALONE,
    text_ids=torch.arange(33) % 9,
)
ONE_EACH = inputs(image_features=(), text_features=(), logit_scale=4.0, image_ids=ALONE, text_ids=ALONE)

OBJECTIVES = {
    "sup_con": Objective(sup_con, dense_losses.sup_con, sup_con_rows(SOME_ALONE), {}, has_positive),
    **{
        f"sup_con_inside_{name}": Objective(
            sup_con, dense_sup_con_inside, sup_con_rows(labels), {"mean": "inside"}, has_positive, terms=3.0
        )
        for name, labels in {"few": FEW, "some_alone": SOME_ALONE, "alone": ALONE, "one": torch.zeros_like(FEW)}.items()
    },
    "nspt": Objective(nspt, dense_nspt, BANKS),
    "nspt_with_self": Objective(nspt, dense_nspt, BANKS, {"exclude_self": False}),
    "nspt_anchors": Objective(nspt, dense_nspt, SOME_ANCHORS, counted=has_class),
    "nspt_one": Objective(nspt, dense_nspt, inputs(n=1, student=(), teacher=(), labels=FEW[:1], temperature=0.4)),
    "multi_positive_clip": Objective(
        multi_positive_clip_loss, dense_multi_positive, GROUPS, {}, multi_positive_counted
    ),
    "multi_positive_clip_ragged": Objective(
        multi_positive_clip_loss, dense_multi_positive, RAGGED_GROUPS, {}, multi_positive_counted
    ),
    "multi_positive_clip_one_each": Objective(
        multi_positive_clip_loss, dense_multi_positive, ONE_EACH, {}, multi_positive_counted
    ),
    "info_nce_without_duplicates": Objective(
        lambda queries, keys, ids, **options: info_nce(queries, keys, negatives=different(ids), **options),
        lambda queries, keys, ids, temperature: dense_losses.cross_entropy(
            queries @ keys.mT / temperature, (queries * keys).sum(1) / temperature, ~equal(ids), True
        ),
        inputs(queries=(), keys=(), ids=SOME_ALONE, temperature=0.4),
    ),
    "info_nce_in_clusters": Objective(
        lambda queries, keys, ids, **options: info_nce(queries, keys, negatives=same(ids), **options),
        lambda queries, keys, ids, temperature: dense_losses.cross_entropy(
            queries @ keys.mT / temperature, (queries * keys).sum(1) / temperature, equal(ids) & off_diagonal(N), True
        ),
        inputs(queries=(), keys=(), ids=SOME_ALONE, temperature=0.4),
    ),
}

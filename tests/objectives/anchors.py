"""One anchor, several sets of others; prefixes of the embeddings."""

import dense_losses
import torch
from torch.nn import functional as F

from contrastive_ops import clip_loss, matryoshka, shared_anchor_loss, shuffled_group_whitening, sup_con
from objectives.pairs import dense_clip
from objectives.table import FEW, D, Objective, inputs, unit


def dense_shared_anchor(anchors, others, temperature, symmetric=True, combine="sum"):
    dense = (lambda x, y: dense_clip(x, y, 1 / temperature)) if symmetric else one_direction(temperature)
    losses = torch.stack([dense(anchors, other) for other in others])
    return losses.mean(0) if combine == "mean" else losses.sum(0)


def one_direction(temperature):
    return lambda x, y: F.cross_entropy(x @ y.mT / temperature, torch.arange(len(x)), reduction="none")


def dense_whitened(features, orders, temperature):
    """WhitenedCSE: the first whitened view among each of the others."""
    views = [F.normalize(dense_whitening(features, order), dim=1) for order in orders]
    return sum(one_direction(temperature)(views[0], view) for view in views[1:])


def dense_whitening(features, order, group_size=4, epsilon=1e-2):
    """Group by group, with the root of the covariance by its eigenvalues."""
    columns = []
    for group in order.split(group_size):
        x = features[:, group] - features[:, group].mean(0)
        covariance = x.mT @ x / len(x) + epsilon * torch.eye(len(group), dtype=x.dtype)
        values, vectors = torch.linalg.eigh(covariance)
        columns.append(x @ vectors @ torch.diag(values**-0.5) @ vectors.mT)
    return torch.cat(columns, 1)[:, order.argsort()]


def whitened_cse(features, orders, **options):
    views = [
        F.normalize(shuffled_group_whitening(features, group_size=4, order=order, epsilon=1e-2), dim=1)
        for order in orders
    ]
    return shared_anchor_loss(views[0], views[1:], symmetric=False, **options)


def prefixes(dense):
    def loss(*embeddings, dims, weights=None, normalize=True, **others):
        cut = [[e[:, :d] for e in embeddings] for d in dims]
        if normalize:
            cut = [[F.normalize(e, dim=1) for e in part] for part in cut]
        return sum(w * dense(*part, **others) for w, part in zip(weights or (1.0,) * len(dims), cut, strict=True))

    return loss


ORDERS = [torch.randperm(D, generator=torch.Generator().manual_seed(s)) for s in range(3)]
SETS = inputs(anchors=(), others=(3,), temperature=0.4)

OBJECTIVES = {
    "dream_lip": Objective(shared_anchor_loss, dense_shared_anchor, SETS, {"combine": "mean"}),
    "more": Objective(shared_anchor_loss, dense_shared_anchor, SETS),
    "whitened_cse_sets": Objective(shared_anchor_loss, dense_shared_anchor, SETS, {"symmetric": False}),
    "whitened_cse": Objective(
        whitened_cse,
        dense_whitened,
        inputs(features=unit(21, D, seed=4), temperature=0.4),
        {"orders": ORDERS},
        half=False,
    ),
    "matryoshka_clip": Objective(
        lambda a, b, scale, dims, **options: matryoshka(clip_loss, a, b, dims=dims, logit_scale=scale, **options),
        lambda a, b, scale, dims: prefixes(dense_clip)(a, b, dims=dims, logit_scale=scale),
        inputs(a=(), b=(), scale=4.0),
        {"dims": (2, 5, D)},
        half=False,
    ),
    "matryoshka_sup_con": Objective(
        lambda a, t, weights, **x: matryoshka(
            sup_con, a, dims=(3, D), weights=weights, normalize=False, labels=FEW, temperature=t, **x
        ),
        lambda a, t, weights: prefixes(dense_losses.sup_con)(
            a, dims=(3, D), weights=weights, normalize=False, labels=FEW, temperature=t
        ),
        inputs(a=(), t=0.4),
        {"weights": (0.3, 2.0)},
    ),
}

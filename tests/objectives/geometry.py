"""Uniformity and alignment."""

from functools import partial

import torch
from torch.nn import functional as F

from contrastive_ops import alignment, contrastive_gap_loss, cross_uniformity, uniformity
from objectives.pairs import dense_clip
from objectives.table import Objective, inputs, off_diagonal, unit


def distances(x, y):
    return (x[:, None] - y[None]).square().sum(2)


def dense_uniformity(features, t=2.0, diagonal=True):
    potential, n = (-t * distances(features, features)).exp(), len(features)
    if n < 2:
        return potential.sum() * 0.0
    return (potential.sum() / n if diagonal else potential[off_diagonal(n)].mean()).log()


def dense_cross_uniformity(first, second, t=2.0):
    potential, n = (-t * distances(first, second)).exp(), len(first)
    return (potential[off_diagonal(n)].sum() / n).log() if n > 1 else potential.sum() * 0.0


def dense_alignment(first, second):
    return (first - second).square().sum(1)


def dense_gap(image_features, text_features, logit_scale, t=2.0, across=False):
    total = dense_clip(image_features, text_features, logit_scale).mean()
    total = total + dense_alignment(image_features, text_features).mean()
    total = total + 0.5 * (dense_uniformity(image_features, t) + dense_uniformity(text_features, t))
    return total + dense_cross_uniformity(image_features, text_features, t) if across else total


FEATURES, TWO = inputs(features=()), inputs(first=(), second=())
PAIR = inputs(image_features=(), text_features=(), logit_scale=5.0)
Number = partial(Objective, reduces=False)

OBJECTIVES = {
    "uniformity": Number(uniformity, dense_uniformity, FEATURES),
    "uniformity_t": Number(uniformity, dense_uniformity, FEATURES, {"t": 0.7}),
    "uniformity_wang_isola": Number(uniformity, dense_uniformity, FEATURES, {"diagonal": False}),
    "uniformity_not_normalised": Number(
        uniformity, dense_uniformity, inputs(features=3 * unit(9, 5, seed=2)), terms=18.0
    ),
    "uniformity_one": Number(uniformity, dense_uniformity, inputs(n=1, features=())),
    "cross_uniformity": Number(cross_uniformity, dense_cross_uniformity, TWO),
    "cross_uniformity_one": Number(cross_uniformity, dense_cross_uniformity, inputs(n=1, first=(), second=())),
    "alignment": Objective(alignment, dense_alignment, TWO, has_backend=False),
    # BYOL and SiamLIP: 2 - 2 cos to a frozen target
    "byol": Objective(
        lambda p, v, **options: alignment(F.normalize(p, dim=1), v.detach(), **options),
        lambda p, v: 2 - 2 * torch.cosine_similarity(p, v.detach(), dim=1),
        inputs(p=(), v=()),
        has_backend=False,
        half=False,
    ),
    "contrastive_gap": Number(contrastive_gap_loss, dense_gap, PAIR),
    "contrastive_gap_across": Number(contrastive_gap_loss, dense_gap, PAIR, {"across": True, "t": 1.5}),
}

"""Negatives that are corrected, weighted or grouped."""

import math

import torch

from contrastive_ops import collo_ssl, debiased_nt_xent, weighted_info_nce
from objectives.table import N, Objective, inputs, off_diagonal, unit


def dense_debiased(z1, z2, temperature, tau_plus=0.1, beta=0.0):
    """As the authors write it, with plain exponentials."""
    z, n = torch.cat((z1, z2)), len(z1)
    positive = ((z1 * z2).sum(1) / temperature).exp().repeat(2)
    if n == 1:
        return positive * 0.0
    others = off_diagonal(n).repeat(2, 2)
    negative = (z @ z.mT / temperature).exp()[others].view(2 * n, -1)
    importance = negative**beta
    reweighted = (importance * negative).sum(1) / importance.mean(1)
    count = 2 * n - 2
    estimate = (-tau_plus * count * positive + reweighted) / (1 - tau_plus)
    estimate = estimate.maximum(count * torch.exp(-1 / temperature))
    return -torch.log(positive / (positive + estimate))


def dense_weighted(queries, keys, log_weights, temperature, weigh_positive=True):
    scores = queries @ keys.mT / temperature
    weights = log_weights[None, :] if weigh_positive else log_weights[None, :] * off_diagonal(len(queries))
    return -(scores + weights).log_softmax(1).diag()


def dense_collo_ssl(
    anchors, positives, negatives, temperature, log_positive_weights=None, log_negative_weights=None, samples=None
):
    def weight(log_weights, device):
        return 1.0 if log_weights is None else log_weights[device].exp()

    n = len(anchors)
    meets = off_diagonal(n).double() if samples is None else sum(torch.eye(n, dtype=torch.float64)[s] for s in samples)
    p = sum(
        weight(log_positive_weights, d) * (anchors @ device.mT / temperature).exp().diag()
        for d, device in enumerate(positives)
    )
    q = sum(
        weight(log_negative_weights, d) * ((anchors @ device.mT / temperature).exp() * meets.to(p.dtype)).sum(1)
        for d, device in enumerate(negatives)
    )
    return (p + q).log() - p.log()


PAIR = inputs(z1=(), z2=(), temperature=0.5)
# pairs so close beside so few negatives that the estimate falls below its bound, also below 0
CLOSE = inputs(n=4, z1=unit(4, 5, seed=1), z2=unit(4, 5, seed=1) + 0.01 * unit(4, 5, seed=2), temperature=0.6)
SOME_CLOSE = inputs(z1=unit(N, 3, seed=1), z2=unit(N, 3, seed=1) + 0.5 * unit(N, 3, seed=2), temperature=0.5)
WEIGHTS = 0.5 * torch.randn(N, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
WEIGHTED = inputs(queries=(), keys=(), log_weights=WEIGHTS, temperature=0.4)
DEVICES = {"anchors": (), "positives": (2,), "negatives": (3,), "temperature": 0.4}
LOG_WEIGHTS = {
    "log_positive_weights": torch.tensor([0.0, -0.7], dtype=torch.float64),
    "log_negative_weights": torch.tensor([0.3, -1.0, math.log(0.5)], dtype=torch.float64),
}
SAMPLES = {"samples": torch.randint(N, (2, N), generator=torch.Generator().manual_seed(5))}

OBJECTIVES = {
    "debiased": Objective(debiased_nt_xent, dense_debiased, PAIR),
    "debiased_share_0": Objective(debiased_nt_xent, dense_debiased, PAIR, {"tau_plus": 0.0}),
    "debiased_bound": Objective(debiased_nt_xent, dense_debiased, CLOSE, {"tau_plus": 0.3}),
    "debiased_bound_some": Objective(debiased_nt_xent, dense_debiased, SOME_CLOSE, {"tau_plus": 0.12}),
    "debiased_one": Objective(debiased_nt_xent, dense_debiased, inputs(n=1, z1=(), z2=(), temperature=0.5)),
    "hard": Objective(debiased_nt_xent, dense_debiased, PAIR, {"beta": 1.0}),
    "hard_not_debiased": Objective(debiased_nt_xent, dense_debiased, PAIR, {"beta": 0.5, "tau_plus": 0.0}),
    "hard_bound": Objective(debiased_nt_xent, dense_debiased, CLOSE, {"tau_plus": 0.3, "beta": 2.0}, half=False),
    "log_q": Objective(weighted_info_nce, dense_weighted, WEIGHTED),
    "log_weighted_negatives": Objective(weighted_info_nce, dense_weighted, WEIGHTED, {"weigh_positive": False}),
    "collo_ssl": Objective(collo_ssl, dense_collo_ssl, inputs(**DEVICES)),
    "collo_ssl_weighted": Objective(collo_ssl, dense_collo_ssl, inputs(**DEVICES, **LOG_WEIGHTS)),
    "collo_ssl_samples": Objective(collo_ssl, dense_collo_ssl, inputs(**DEVICES, **LOG_WEIGHTS, **SAMPLES)),
}

"""The losses from stored scores, in the dtype of their inputs. Per-item losses; `[N]` or `[2N]`.

`exact=True` keeps the positive out of its log-sum-exp, softplus(lse_negatives - positive): a cross-entropy forms
log(1 + tiny) as a difference of two large numbers and loses pairs below 1e-16 even in float64.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def cross_entropy(scores: Tensor, positive: Tensor, negatives: Tensor, exact: bool) -> Tensor:
    """Cross-entropy of one positive per row. `scores [M, N]`, `positive [M]`, `negatives [M, N]` bool."""
    negative_scores = scores.masked_fill(~negatives, -torch.inf)
    if not exact:
        return torch.cat((positive[:, None], negative_scores), 1).logsumexp(1) - positive
    empty = ~negatives.any(1)
    lse = negative_scores.masked_fill(empty[:, None], 0.0).logsumexp(1) if scores.shape[1] else positive * 0.0
    return torch.where(empty, positive * 0.0, -F.logsigmoid(positive - lse))


def clip(images: Tensor, texts: Tensor, scale, label_smoothing: float = 0.0, exact: bool = True) -> Tensor:
    scores = scale * (images @ texts.mT)
    others = ~torch.eye(len(images), dtype=torch.bool)
    losses = 0.5 * sum(cross_entropy(s, s.diag(), others, exact) for s in (scores, scores.mT))
    spread = scores.diag() - 0.5 * (scores.mean(1) + scores.mean(0))
    return losses + label_smoothing * spread


def info_nce(queries: Tensor, keys: Tensor, temperature, negatives: Tensor | None = None, exact: bool = True) -> Tensor:
    """`negatives`: None for the other keys, `[K, D]` shared, `[M, K, D]` private."""
    positive = (queries * keys).sum(1) / temperature
    if negatives is None:
        scores = queries @ keys.mT / temperature
        return cross_entropy(scores, positive, ~torch.eye(len(queries), dtype=torch.bool), exact)
    scores = (negatives @ queries[..., None]).squeeze(-1) if negatives.dim() == 3 else queries @ negatives.mT
    scores = scores / temperature
    return cross_entropy(scores, positive, torch.ones_like(scores, dtype=torch.bool), exact)


def nt_xent(z1: Tensor, z2: Tensor, temperature, exact: bool = True) -> Tensor:
    z, n = torch.cat((z1, z2)), len(z1)
    scores = z @ z.mT / temperature
    partner = (torch.arange(2 * n) + n) % (2 * n) if n else torch.arange(0)
    same_item = torch.arange(2 * n)[:, None] % max(n, 1) == torch.arange(2 * n)[None, :] % max(n, 1)
    return cross_entropy(scores, scores.gather(1, partner[:, None]).squeeze(1), ~same_item, exact)


def sup_con(features: Tensor, labels: Tensor, temperature, exact: bool = True) -> Tensor:
    """Rows without a positive, or of label -1, have loss 0."""
    scores = features @ features.mT / temperature
    others = ~torch.eye(len(features), dtype=torch.bool)
    positives = (labels[:, None] == labels[None, :]) & others & (labels != -1)
    count = positives.sum(1)
    lse = scores.masked_fill(~others, -torch.inf).masked_fill((count == 0)[:, None], 0.0).logsumexp(1)
    mean = scores.masked_fill(~positives, 0.0).sum(1) / count.clamp(min=1)
    return torch.where(count == 0, 0.0, lse - mean)


def sup_con_mean(losses: Tensor, labels: Tensor) -> Tensor:
    """Mean over the anchors that have a positive."""
    has_positive = ((labels[:, None] == labels[None, :]).sum(1) > 1) & (labels != -1)
    return losses.sum() / has_positive.sum().clamp(min=1)

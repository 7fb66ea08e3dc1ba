"""One call of every loss on N pairs, and the scores it visits: for its time, and for its memory in the tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

import contrastive_ops as ops

SCALE = 20.0
TEMPERATURE = 1 / SCALE


class Call(NamedTuple):
    """A loss on N pairs `x`, `y` (`[N, D]`, with gradient), and what it visits."""

    loss: Callable[..., Tensor]  # (x, y, **options)
    scores: float | None  # scores that it visits, over N * N; None: the time is elsewhere

    def __call__(self, x: Tensor, y: Tensor, **options: Any) -> Tensor:
        return self.loss(x, y, **options)


def _groups(x: Tensor, size: int) -> Tensor:
    return torch.arange(len(x), device=x.device) // size


def _views(x: Tensor, y: Tensor) -> Tensor:
    return torch.stack((x, y, x.flip(1)))


def _strip_backend(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Of a loss that visits no scores, and so has no backend."""
    return lambda x, y, backend=None, workspace_bytes=0: loss(x, y)


CALLS = {
    "clip_loss": Call(lambda x, y, **o: ops.clip_loss(x, y, SCALE, **o), 1),
    "clip_loss, label smoothing": Call(lambda x, y, **o: ops.clip_loss(x, y, SCALE, label_smoothing=0.1, **o), 1),
    "clip_loss, one side frozen": Call(lambda x, y, **o: ops.clip_loss(x.detach(), y, SCALE, **o), 1),
    "clip_loss, without duplicates": Call(
        lambda x, y, **o: ops.clip_loss(x, y, SCALE, negatives=ops.different(_groups(x, 4)), **o), 1
    ),
    "gram_loss, 2 modalities": Call(lambda x, y, **o: ops.gram_loss(x, (y, y.flip(1)), **o), 2),
    "info_nce": Call(lambda x, y, **o: ops.info_nce(x, y, **o), 1),
    "nt_xent": Call(lambda x, y, **o: ops.nt_xent(x, y, **o), 2),
    "sup_con": Call(lambda x, y, **o: ops.sup_con(x, _groups(x, 16), **o), 0.5),
    "sup_con, mean inside": Call(lambda x, y, **o: ops.sup_con(x, _groups(x, 16), mean="inside", **o), 1),
    "dcl": Call(lambda x, y, **o: ops.dcl(x, y, **o), 2),
    "dcl, weighted, sum": Call(lambda x, y, **o: ops.dcl(x, y, sigma=0.5, combine="sum", **o), 2),
    "mv_dhel, 3 views": Call(lambda x, y, **o: ops.mv_dhel(_views(x, y), **o), 1.5),
    "mv_info_nce, 3 views": Call(lambda x, y, **o: ops.mv_info_nce(_views(x, y), **o), 4.5),
    "poly_view, 3 views": Call(lambda x, y, **o: ops.poly_view(_views(x, y), **o), 4.5),
    "nspt, all anchors": Call(lambda x, y, **o: ops.nspt(x, y, _groups(x, 16), **o), 2),
    "multi_positive_clip_loss": Call(
        lambda x, y, **o: ops.multi_positive_clip_loss(x, y, SCALE, _groups(x, 4), _groups(x, 4), **o), 1
    ),
    "uniformity": Call(lambda x, y, **o: ops.uniformity(x, **o), 0.5),
    "cross_uniformity": Call(lambda x, y, **o: ops.cross_uniformity(x, y, **o), 1),
    "alignment": Call(_strip_backend(ops.alignment), 0),
    "contrastive_gap_loss": Call(lambda x, y, **o: ops.contrastive_gap_loss(x, y, SCALE, across=True, **o), 3),
    "debiased_nt_xent": Call(lambda x, y, **o: ops.debiased_nt_xent(x, y, **o), 2),
    "debiased_nt_xent, hard": Call(lambda x, y, **o: ops.debiased_nt_xent(x, y, beta=1.0, **o), 4),
    "weighted_info_nce": Call(lambda x, y, **o: ops.weighted_info_nce(x, y, -x.detach().norm(dim=1), **o), 1),
    "collo_ssl, 2 positives, 1 negative": Call(
        lambda x, y, **o: ops.collo_ssl(x, torch.stack((y, y.flip(1))), y[None], **o), 1
    ),
    "cwcl": Call(lambda x, y, **o: ops.cwcl(x, y, **o), 1),
    "mixup_clip_loss": Call(
        lambda x, y, **o: ops.mixup_clip_loss(x, y, _groups(x, 1).roll(1), torch.rand(len(x), device=x.device), **o), 1
    ),
    "clip_rocket_loss, 2 views": Call(
        lambda x, y, **o: ops.clip_rocket_loss(x, y, SCALE, (x, y), (y, x.flip(1)), SCALE, **o), 5
    ),
    "swalip_loss": Call(lambda x, y, **o: ops.swalip_loss(x, y, SCALE, x.flip(1), y.flip(1), **o), None),
    "shared_anchor_loss, 3 sets": Call(lambda x, y, **o: ops.shared_anchor_loss(x, (y, y.flip(1), x), **o), 3),
    "packed_info_nce, 1 hard negative": Call(
        lambda x, y, **o: ops.packed_info_nce(x, torch.stack((y, y.flip(1)), 1).flatten(0, 1), **o), 2
    ),
    "private_info_nce, 8 candidates": Call(
        _strip_backend(
            lambda x, y: ops.private_info_nce(x, torch.stack([y.roll(i, 1) for i in range(8)], 1), _groups(x, 1) % 8)
        ),
        0,
    ),
    "decoupled_softmax": Call(
        lambda x, y, **o: ops.decoupled_softmax(x, y, _groups(x, 4), _groups(x, 4), max_positives=4, **o), 1
    ),
    "matryoshka of clip_loss, D/4 and D": Call(
        lambda x, y, **o: ops.matryoshka(
            ops.clip_loss, x, y, dims=(x.shape[1] // 4, x.shape[1]), logit_scale=SCALE, **o
        ),
        1.25,
    ),
    "shuffled_group_whitening": Call(
        _strip_backend(lambda x, y: ops.shuffled_group_whitening(x, group_size=4).square().sum()), 0
    ),
}

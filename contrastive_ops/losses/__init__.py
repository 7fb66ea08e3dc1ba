"""Losses: each a few lines over the statistics, in functional and module form."""

from contrastive_ops.losses.clip import ClipLoss, clip_loss
from contrastive_ops.losses.gram import GramLoss, gram_loss
from contrastive_ops.losses.gram_negatives import gram_negatives
from contrastive_ops.losses.info_nce import InfoNCELoss, info_nce
from contrastive_ops.losses.nt_xent import NTXentLoss, nt_xent
from contrastive_ops.losses.sup_con import SupConLoss, sup_con

__all__ = [
    "ClipLoss",
    "GramLoss",
    "InfoNCELoss",
    "NTXentLoss",
    "SupConLoss",
    "clip_loss",
    "gram_loss",
    "gram_negatives",
    "info_nce",
    "nt_xent",
    "sup_con",
]

"""Contrastive losses that never store the similarity matrix."""

from contrastive_ops.losses import (
    ClipLoss,
    GramLoss,
    InfoNCELoss,
    NTXentLoss,
    SupConLoss,
    clip_loss,
    gram_loss,
    gram_negatives,
    info_nce,
    nt_xent,
    sup_con,
)
from contrastive_ops.ops import (
    gram_nearest,
    gram_volume,
    merge_lse,
    similarity_statistics,
    streamed_row_lse,
    summed_row_cross_entropy,
    volume_statistics,
)
from contrastive_ops.problem import Statistics
from contrastive_ops.relations import Relation, all_pairs, diagonal, different, off_diagonal, same

__version__ = "0.1.0"

__all__ = [
    "ClipLoss",
    "GramLoss",
    "InfoNCELoss",
    "NTXentLoss",
    "Relation",
    "Statistics",
    "SupConLoss",
    "all_pairs",
    "clip_loss",
    "diagonal",
    "different",
    "gram_loss",
    "gram_nearest",
    "gram_negatives",
    "gram_volume",
    "info_nce",
    "merge_lse",
    "nt_xent",
    "off_diagonal",
    "same",
    "similarity_statistics",
    "streamed_row_lse",
    "summed_row_cross_entropy",
    "sup_con",
    "volume_statistics",
]

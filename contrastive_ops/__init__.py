"""Contrastive losses that never store the similarity matrix."""

from contrastive_ops import losses
from contrastive_ops.losses import *  # noqa: F403  # what it exports is said there, once
from contrastive_ops.ops import (
    Accuracy,
    Statistics,
    gram_nearest,
    gram_volume,
    in_batch_accuracy,
    merge_lse,
    mrr,
    positive_ranks,
    recall_at,
    reduce,
    similarity_statistics,
    softmax_mean,
    streamed_row_lse,
    summed_row_cross_entropy,
    volume_statistics,
)
from contrastive_ops.reductions import CountAbove, Largest, LogSumExp, Reduced, Reduction, ScoreSum
from contrastive_ops.relations import Relation, all_pairs, diagonal, different, off_diagonal, same

__version__ = "0.1.0"

__all__ = [
    "Accuracy",
    "CountAbove",
    "Largest",
    "LogSumExp",
    "Reduced",
    "Reduction",
    "Relation",
    "ScoreSum",
    "Statistics",
    "all_pairs",
    "diagonal",
    "different",
    "gram_nearest",
    "gram_volume",
    "in_batch_accuracy",
    "merge_lse",
    "mrr",
    "off_diagonal",
    "positive_ranks",
    "recall_at",
    "reduce",
    "same",
    "similarity_statistics",
    "softmax_mean",
    "streamed_row_lse",
    "summed_row_cross_entropy",
    "volume_statistics",
]
__all__ += losses.__all__

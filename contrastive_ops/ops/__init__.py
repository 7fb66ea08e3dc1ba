"""Differentiable primitives that the losses are made of."""

from contrastive_ops.ops.cross_entropy import cross_entropy_of_positive
from contrastive_ops.ops.merge import merge_lse, merged_along
from contrastive_ops.ops.nearest_volume import gram_nearest
from contrastive_ops.ops.paired_volume import gram_volume
from contrastive_ops.ops.partial import partial_gradients, partial_results
from contrastive_ops.ops.ranks import Accuracy, in_batch_accuracy, mrr, positive_ranks, recall_at
from contrastive_ops.ops.reduce import reduce
from contrastive_ops.ops.row_cross_entropy import divided_row_cross_entropy, summed_row_cross_entropy
from contrastive_ops.ops.softmax_mean import softmax_mean
from contrastive_ops.ops.statistics import Statistics, similarity_statistics
from contrastive_ops.ops.streamed import streamed_row_lse
from contrastive_ops.ops.volume_statistics import volume_statistics

__all__ = [
    "Accuracy",
    "Statistics",
    "cross_entropy_of_positive",
    "divided_row_cross_entropy",
    "gram_nearest",
    "gram_volume",
    "in_batch_accuracy",
    "merge_lse",
    "merged_along",
    "mrr",
    "partial_gradients",
    "partial_results",
    "positive_ranks",
    "recall_at",
    "reduce",
    "similarity_statistics",
    "softmax_mean",
    "streamed_row_lse",
    "summed_row_cross_entropy",
    "volume_statistics",
]

"""What lines of scores are reduced to."""

from contrastive_ops.reductions.base import MAX_REDUCTIONS, Reduced, Reduction, ReductionKind
from contrastive_ops.reductions.count_above import CountAbove
from contrastive_ops.reductions.largest import Largest
from contrastive_ops.reductions.log_sum_exp import LogSumExp
from contrastive_ops.reductions.score_sum import ScoreSum

__all__ = [
    "KINDS",
    "MAX_REDUCTIONS",
    "CountAbove",
    "Largest",
    "LogSumExp",
    "Reduced",
    "Reduction",
    "ReductionKind",
    "ScoreSum",
]

KINDS: dict[str, type[Reduction]] = {kind.word: kind for kind in (LogSumExp, ScoreSum, Largest, CountAbove)}

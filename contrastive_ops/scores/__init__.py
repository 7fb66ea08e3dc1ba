"""Which number a pair (i, j) has: the inner product, or another functor of a few products."""

from contrastive_ops.scores.base import MAX_BANKS, Score, ScoreGradient, ScoreKind
from contrastive_ops.scores.dot import DOT, DotScore
from contrastive_ops.scores.volume import VolumeScore

__all__ = ["DOT", "MAX_BANKS", "DotScore", "Score", "ScoreGradient", "ScoreKind", "VolumeScore"]

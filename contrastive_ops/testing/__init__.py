"""What tests and benchmarks share: inputs, relations, dense truths, tolerances, calls. Nothing in the library uses it.

Inputs and truths (all that is exported here) are made without the library but for the `Relation` objects; what does
call it lies in modules of their own: `matrix`, `loss_calls`, `emulated_cuda`.
"""

from contrastive_ops.testing.cases import Case, Inputs, make_inputs
from contrastive_ops.testing.dense import dense_clip_loss, dense_results, dense_statistics, differentiate
from contrastive_ops.testing.errors import norm_error, worst_row_error
from contrastive_ops.testing.layouts import LAYOUTS
from contrastive_ops.testing.pair_sets import RELATIONS, SELF_RELATIONS
from contrastive_ops.testing.pairs import make_confident_pairs, make_pairs
from contrastive_ops.testing.shapes import SHAPES
from contrastive_ops.testing.tolerances import DTYPES, TOLERANCES, tolerance_for

__all__ = [
    "DTYPES",
    "LAYOUTS",
    "RELATIONS",
    "SELF_RELATIONS",
    "SHAPES",
    "TOLERANCES",
    "Case",
    "Inputs",
    "dense_clip_loss",
    "dense_results",
    "dense_statistics",
    "differentiate",
    "make_confident_pairs",
    "make_inputs",
    "make_pairs",
    "norm_error",
    "tolerance_for",
    "worst_row_error",
]

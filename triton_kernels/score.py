"""Scores as functors: products of a tile to the number that `scale` multiplies, and dS to the weights of the products.

Relations, reductions and walks over tiles know nothing of what is behind these functions. A new score is a module like
`volume` and a branch in each of them.
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl

from contrastive_ops.scores import ScoreKind
from contrastive_ops.triton_kernels.volume import volume_coordinates, volume_slopes, volume_value, volume_weights

VOLUME = tl.constexpr(int(ScoreKind.VOLUME))


class Score(NamedTuple):
    """A score as a kernel argument; an inner product has no terms."""

    kind: Any  # constexpr, a ScoreKind
    row_term: Any  # [B, M] statistics dtype
    col_term: Any  # [B, N]
    mixing: Any  # [B, K (K + 1) / 2, N]
    absolute: Any  # constexpr bool


@triton.jit
def score_coordinates(score, dots, batch, cols, num_cols):
    """What the score is a function of, K tiles, from the K products of a tile: <q_i, k^s_j>."""
    if score.kind == VOLUME:
        return volume_coordinates(score, dots, batch, cols, num_cols)
    else:
        return dots


@triton.jit
def score_value(score, coordinates, batch, rows, num_rows, cols, num_cols):
    """score_ij of a tile."""
    if score.kind == VOLUME:
        return volume_value(score, coordinates, batch, rows, num_rows, cols, num_cols)
    else:
        return coordinates[0]


@triton.jit
def score_slopes(score, coordinates, ds, batch, rows, num_rows, cols, num_cols):
    """dS_ij times the derivatives of score_ij: by the coordinates (K tiles), by row_term_i, by col_term_j."""
    if score.kind == VOLUME:
        return volume_slopes(score, coordinates, ds, batch, rows, num_rows, cols, num_cols)
    else:
        return (ds,), ds, ds  # without terms nobody reads their slopes


@triton.jit
def bank_weights(score, slopes, s: tl.constexpr, batch, cols, num_cols, dtype: tl.constexpr):
    """dS_ij times the derivative of score_ij by <q_i, k^s_j>, rounded: dQ += weights^s K^s, dK^s += weights^s^T Q."""
    if score.kind == VOLUME:
        return volume_weights(score, slopes, s, batch, cols, num_cols, dtype)
    else:
        return slopes[s].to(dtype)

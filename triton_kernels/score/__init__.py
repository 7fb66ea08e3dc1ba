"""Scores as functors: products of a tile to the number that `scale` multiplies, and dS to the weights of the products.

Relations, reductions and walks over tiles know nothing of what is behind these functions. A new score is a module like
`volume` and a branch in each of them.
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl

from contrastive_ops.scores import ScoreKind
from contrastive_ops.triton_kernels.score.dot import dot_slopes, dot_value, dot_weights
from contrastive_ops.triton_kernels.score.volume import (
    volume_coordinates,
    volume_slopes,
    volume_value,
    volume_weights,
)
from contrastive_ops.triton_kernels.tile import load_cols, load_rows

VOLUME = tl.constexpr(int(ScoreKind.VOLUME))


class Score(NamedTuple):
    """A score as a kernel argument; an inner product has no terms."""

    kind: Any  # constexpr, a ScoreKind
    row_term: Any  # [B, M] statistics dtype
    col_term: Any  # [B, N]
    mixing: Any  # [B, K (K + 1) / 2, N]
    absolute: Any  # constexpr bool


@triton.jit
def score_coordinates(score, dots, tile):
    """What the score is a function of, K tiles, from the K products of a tile: <q_i, k^s_j>."""
    if score.kind == VOLUME:
        return volume_coordinates(score, dots, tile)
    else:
        return dots


@triton.jit
def score_value(score, coordinates, tile):
    """score_ij of a tile."""
    if score.kind == VOLUME:
        return volume_value(score, coordinates, tile)
    else:
        return dot_value(coordinates)


@triton.jit
def scaled_scores(values, scale, row_bias, col_bias, tile):
    """s_ij = scale * score_ij + row_bias_i + col_bias_j"""
    scores = values * scale
    if row_bias is not None:
        scores += load_rows(row_bias, tile, 0.0)[:, None]
    if col_bias is not None:
        scores += load_cols(col_bias, tile, 0.0)[None, :]
    return scores


@triton.jit
def score_slopes(score, coordinates, ds, tile):
    """dS_ij times the derivatives of score_ij: by the coordinates (K tiles), by row_term_i, by col_term_j."""
    if score.kind == VOLUME:
        return volume_slopes(score, coordinates, ds, tile)
    else:
        return dot_slopes(ds)


@triton.jit
def bank_weights(score, slopes, s: tl.constexpr, tile, dtype: tl.constexpr):
    """dS_ij times the derivative of score_ij by <q_i, k^s_j>, rounded: dQ += weights^s K^s, dK^s += weights^s^T Q."""
    if score.kind == VOLUME:
        return volume_weights(score, slopes, s, tile, dtype)
    else:
        return dot_weights(slopes, dtype)

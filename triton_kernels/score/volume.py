"""The volume that a query spans with the K vectors of a column: col_term_j times the query's distance from their span.

d^r_ij = sum_{s <= r} mixing^rs_j <q_i, k^s_j>                    coordinates along an orthonormal basis of the span
rho_ij = sqrt(max(row_term_i - sum_r (d^r_ij)^2, 0))              or the root of the absolute value
score_ij = col_term_j rho_ij
"""

import triton
import triton.language as tl

from contrastive_ops.triton_kernels.tile import load_cols, load_line, load_rows


@triton.jit
def load_mixing(score, r: tl.constexpr, s: tl.constexpr, tile, BANKS: tl.constexpr):
    """mixing^rs of the columns, [1, BLOCK_N]."""
    line = tile.batch * (BANKS * (BANKS + 1) // 2) + r * (r + 1) // 2 + s
    return load_line(score.mixing, line, tile.cols, tile.num_cols, 0.0)[None, :]


@triton.jit
def volume_coordinates(score, dots, tile):
    """d^r of a tile, for every r: the last one first, as it alone needs the last product."""
    BANKS: tl.constexpr = len(dots)
    coordinates = ()
    for r in tl.static_range(BANKS - 1, -1, -1):
        d = load_mixing(score, r, 0, tile, BANKS) * dots[0]
        for s in tl.static_range(1, r + 1):
            d += load_mixing(score, r, s, tile, BANKS) * dots[s]
        coordinates = (d,) + coordinates
    return coordinates


@triton.jit
def squared_distance(score, coordinates, tile):
    """row_term_i - sum_r (d^r_ij)^2, which rounding may leave below 0."""
    squared = load_rows(score.row_term, tile, 0.0)[:, None] - coordinates[0] * coordinates[0]
    for r in tl.static_range(1, len(coordinates)):
        squared -= coordinates[r] * coordinates[r]
    return squared


@triton.jit
def distance(score, squared):
    """rho_ij. NaN stays NaN."""
    if score.absolute:
        return tl.sqrt(tl.abs(squared))
    else:
        return tl.sqrt(tl.where(squared < 0.0, 0.0, squared))


@triton.jit
def volume_value(score, coordinates, tile):
    """score_ij of a tile."""
    rho = distance(score, squared_distance(score, coordinates, tile))
    return load_cols(score.col_term, tile, 0.0)[None, :] * rho


@triton.jit
def volume_slopes(score, coordinates, ds, tile):
    """dS_ij times the derivatives of score_ij by d^r_ij (for every r), row_term_i and col_term_j.

    d rho = (drow_term / 2 - sum_r d^r dd^r) / rho; at rho = 0, where it has no derivative, 0
    """
    squared = squared_distance(score, coordinates, tile)
    rho = distance(score, squared)
    by_distance = ds * load_cols(score.col_term, tile, 0.0)[None, :] / rho
    by_distance = tl.where(rho == 0.0, 0.0, by_distance)
    if score.absolute:
        by_distance = tl.where(squared < 0.0, -by_distance, by_distance)
    slopes = ()
    for r in tl.static_range(len(coordinates)):
        slopes = slopes + (-by_distance * coordinates[r],)
    return slopes, by_distance * 0.5, ds * rho


@triton.jit
def volume_weights(score, slopes, s: tl.constexpr, tile, dtype: tl.constexpr):
    """The slopes by <q_i, k^s_j>: sum_{r >= s} mixing^rs_j slopes^r_ij."""
    BANKS: tl.constexpr = len(slopes)
    weights = load_mixing(score, s, s, tile, BANKS) * slopes[s]
    for r in tl.static_range(s + 1, BANKS):
        weights += load_mixing(score, r, s, tile, BANKS) * slopes[r]
    if dtype == tl.float16:
        # `unit` leaves room for the slope at a distance of one bit; a fused multiply-add can find a smaller one
        weights = tl.clamp(weights, -65504.0, 65504.0, propagate_nan=tl.PropagateNan.ALL)
    return weights.to(dtype)

"""Uniformity and alignment (Wang & Isola 2020, arXiv 2005.10242), and uniformity between modalities (the Contrastive
Gap, Fahim et al. 2024, arXiv 2405.18570)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from contrastive_ops.check import check_matrix, without_autocast
from contrastive_ops.losses._checks import check_number
from contrastive_ops.losses._common import (
    LossReduction,
    check_pairs,
    check_reduction,
    in_statistics_dtype,
    paired_scores,
    reduce,
)
from contrastive_ops.losses._module import LossModule
from contrastive_ops.losses._rows import row_lse, zero_without_candidates
from contrastive_ops.ops import cross_entropy_of_positive, merged_along
from contrastive_ops.problem import DEFAULT_WORKSPACE_BYTES, statistics_dtype
from contrastive_ops.relations import off_diagonal


def uniformity(
    features: Tensor,
    *,
    t: float = 2.0,
    diagonal: bool = True,
    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES,
    backend: str | None = None,
) -> Tensor:
    """Logarithm of the mean Gaussian potential between the items.

        diagonal:      log( 1/N sum_j sum_k exp(-t |x_j - x_k|^2) )                       (the Contrastive Gap)
        not diagonal:  log( 1/(N (N - 1)) sum_j sum_{k != j} exp(-t |x_j - x_k|^2) )      (Wang & Isola)

    Args:
        features: `[N, D]`, usually L2-normalised (nothing is normalised here).
        t: of the Gaussian, > 0.
        diagonal: whether an item meets itself, with the normaliser that belongs to it.
        workspace_bytes, backend: see `similarity_statistics`.

    Returns:
        0-dim, float32 (float64 for float64 features). Without pairs (N < 2) it is 0. The upper triangle of the N x N
        scores is visited. The mean is taken from all items first; the relative error of a squared distance is then of
        the order of (largest length / distance)^2 times the machine epsilon, so that two far clusters or one far
        outlier lose digits in float32: use float64 there.
    """
    check_matrix("features", features)
    t = check_number("t", t, 0.0, low_belongs=False)
    total, n = _log_potential(features, features, t, workspace_bytes, backend), max(features.shape[0], 1)
    if diagonal:  # each of N items adds exp(0): log( (N + exp(total)) / N )
        value = cross_entropy_of_positive(total, torch.full_like(total, math.log(n)))
    else:
        value = zero_without_candidates(total - math.log(max(n * (n - 1), 1)), total)
    return value.to(statistics_dtype(features.dtype))


def cross_uniformity(
    first: Tensor,
    second: Tensor,
    *,
    t: float = 2.0,
    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES,
    backend: str | None = None,
) -> Tensor:
    """Logarithm of the mean Gaussian potential between items of two modalities that do not belong together.

        log( 1/N sum_j sum_{k != j} exp(-t |x_j - y_k|^2) )

    Args:
        first, second: `[N, D]`, usually L2-normalised (nothing is normalised here); row i belongs to row i.
        t, workspace_bytes, backend: as for `uniformity`.

    Returns:
        0-dim, float32 (float64 for float64 features). Without pairs (N < 2) it is 0. The common mean is taken from both
        first; float32 loses digits as in `uniformity`, with (largest length / distance)^2 times the machine epsilon:
        use float64 for far clusters or outliers.
    """
    check_pairs("first", first, "second", second)
    t = check_number("t", t, 0.0, low_belongs=False)
    total = _log_potential(first, second, t, workspace_bytes, backend)
    value = zero_without_candidates(total - math.log(max(first.shape[0], 1)), total)
    return value.to(statistics_dtype(first.dtype))


def alignment(first: Tensor, second: Tensor, *, reduction: LossReduction = "mean") -> Tensor:
    """Squared distance of matching pairs, |x_i - y_i|^2: O(N*D), no scores.

    Args:
        first, second: `[N, D]`. For unit vectors it is 2 - 2 cos, the loss of BYOL and SiamLIP if `second` is detached.
        reduction: "mean", "sum", or "none" for `[N]` losses.

    Returns:
        float32 (float64 for float64 features).
    """
    check_reduction(reduction)
    check_pairs("first", first, "second", second)
    return reduce((in_statistics_dtype(first) - in_statistics_dtype(second)).square().sum(1), reduction)


def _log_potential(first: Tensor, second: Tensor, t: float, workspace_bytes: int, backend: str | None) -> Tensor:
    """log sum_j sum_{k != j} exp(-t |x_j - y_k|^2), where -t |x - y|^2 = 2t <x, y> - t |x|^2 - t |y|^2.

    These terms cancel where lengths are large beside distances. Distances do not change under a common shift, so the
    mean is taken away first: a constant of the gradient, and in the statistics dtype, as half precision would round it.
    In float64, because the logarithm of the mean, log N^2 less, is near 0 where all distances are.
    """
    is_self = second is first
    first, second = in_statistics_dtype(first), in_statistics_dtype(second)
    center = (first.detach().mean(0) + second.detach().mean(0)) / 2
    first, second = first - center, second - center
    if is_self:  # one tensor in both roles: half of the pairs suffice
        second = first
    with without_autocast(first):  # which has rounded the features already
        row_bias = paired_scores(first, first, -t)
        lse = row_lse(
            first,
            second,
            scale=2.0 * t,
            row_bias=row_bias,
            col_bias=row_bias if is_self else paired_scores(second, second, -t),
            candidates=off_diagonal(),
            workspace_bytes=workspace_bytes,
            backend=backend,
        )
    return merged_along(lse.double(), 0)


class UniformityLoss(LossModule):
    """`uniformity` as a module: `UniformityLoss(t=2.0)(features)`."""

    function = staticmethod(uniformity)


class CrossUniformityLoss(LossModule):
    """`cross_uniformity` as a module: `CrossUniformityLoss(t=2.0)(first, second)`."""

    function = staticmethod(cross_uniformity)


class AlignmentLoss(LossModule):
    """`alignment` as a module: `AlignmentLoss()(first, second)`."""

    function = staticmethod(alignment)

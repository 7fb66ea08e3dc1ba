"""Debiased (Chuang et al. 2020, arXiv 2007.00224) and hardness-weighted (Robinson et al. 2021, arXiv 2010.04592)
negatives."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from contrastive_ops.check import check_scale
from contrastive_ops.losses._checks import check_number
from contrastive_ops.losses._common import (
    LossReduction,
    check_pairs,
    check_reduction,
    inverse_temperature,
    paired_scores,
    reduce,
)
from contrastive_ops.losses._module import LossModule
from contrastive_ops.losses._rows import row_lse, row_lses
from contrastive_ops.losses._views import other_instances
from contrastive_ops.ops import cross_entropy_of_positive
from contrastive_ops.problem import DEFAULT_WORKSPACE_BYTES
from contrastive_ops.reductions import LogSumExp


def debiased_nt_xent(
    z1: Tensor,
    z2: Tensor,
    *,
    temperature: float | Tensor = 0.5,
    tau_plus: float = 0.1,
    beta: float = 0.0,
    reduction: LossReduction = "mean",
    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES,
    backend: str | None = None,
) -> Tensor:
    """NT-Xent that corrects its negatives for the positives among them, and may weigh the hard ones up.

        z = [z1; z2],  s_ij = <z_i, z_j> / temperature,  K = 2N - 2 negatives: the views of other instances
        R_i = K sum_j exp((1 + beta) s_ij) / sum_j exp(beta s_ij)      which is sum_j exp(s_ij) for beta = 0
        G_i = max( (R_i - tau_plus K exp(s_i,p(i))) / (1 - tau_plus),  K exp(-1 / temperature) )
        loss_i = -log( exp(s_i,p(i)) / (exp(s_i,p(i)) + G_i) )

    Args:
        z1, z2: `[N, D]`, two views of N instances, L2-normalised (the lower bound of G supposes it).
        temperature: > 0, divides the similarities; float or one-element tensor, which receives its gradient.
            On a GPU, where it is not read, 0 or less gives NaN or turns the order around, not an error.
        tau_plus: in [0, 1), the share of negatives that are really positives.
        beta: >= 0, how much hard negatives weigh; the weights are not detached.
        reduction: "mean" over the 2N anchors, "sum", or "none" for `[2N]` losses, z1's anchors first.
        workspace_bytes, backend: see `similarity_statistics`.

    Returns:
        float32 (float64 for float64 inputs). N = 1 has no negatives and gives 0. tau_plus = beta = 0 is `nt_xent`, but
        for the lower bound, which no unit vectors reach.
    """
    check_reduction(reduction)
    tau_plus = check_number("tau_plus", tau_plus, 0.0, 1.0)
    beta = check_number("beta", beta, 0.0)
    check_pairs("z1", z1, "z2", z2)
    scale = inverse_temperature(temperature, z1)
    views = torch.stack((z1, z2))
    rows = views.flatten(0, 1)
    positive = paired_scores(z1, z2, scale).repeat(2)
    count = 2 * z1.shape[0] - 2
    if count <= 0:
        return reduce(positive * 0.0, reduction)
    pairs = other_instances(views, same_view=True)
    options: dict[str, Any] = {"scale": scale, "workspace_bytes": workspace_bytes, "backend": backend}
    if beta:
        passed = {"hard": LogSumExp(pairs, factor=1.0 + beta), "weights": LogSumExp(pairs, factor=beta)}
        hard, weights = row_lses(rows, rows, passed, **options)
        lse = hard + math.log(count) - weights
    else:
        lse = row_lse(rows, rows, candidates=pairs, **options)
    # log G = lse + log(1 - tau_plus K exp(positive - lse)) - log(1 - tau_plus), -inf where the bracket is negative
    if tau_plus:
        share = check_scale(tau_plus, lse.device, lse.dtype)  # a graph with a float would be compiled for each
        remains = -torch.expm1((positive - lse + (share * count).log()).clamp(max=0.0))
        is_positive = remains > 0
        log_remains = remains.where(is_positive, 1.0).log().where(is_positive, -torch.inf)
        lse = lse + log_remains - torch.log1p(-share)
    least = math.log(count) - check_scale(scale, lse.device, lse.dtype)
    return reduce(cross_entropy_of_positive(lse.maximum(least), positive), reduction)


class DebiasedNTXentLoss(LossModule):
    """`debiased_nt_xent` as a module: `DebiasedNTXentLoss(tau_plus=0.1, beta=1.0)(z1, z2)`."""

    function = staticmethod(debiased_nt_xent)

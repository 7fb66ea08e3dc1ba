"""DCL and DCLW, decoupled contrastive learning (Yeh et al. 2021, arXiv 2110.06848)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from contrastive_ops.losses._checks import check_choice, check_number
from contrastive_ops.losses._common import (
    LossReduction,
    check_pairs,
    check_reduction,
    inverse_temperature,
    paired_scores,
    reduce,
)
from contrastive_ops.losses._module import LossModule
from contrastive_ops.losses._rows import row_lse, zero_without_candidates
from contrastive_ops.losses._views import other_instances
from contrastive_ops.ops import similarity_statistics
from contrastive_ops.problem import DEFAULT_WORKSPACE_BYTES
from contrastive_ops.relations import off_diagonal


def dcl(
    z1: Tensor,
    z2: Tensor,
    *,
    temperature: float | Tensor = 0.1,
    sigma: float | None = None,
    detach_weight: bool = True,
    combine: Literal["union", "sum"] = "union",
    reduction: LossReduction = "mean",
    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES,
    backend: str | None = None,
) -> Tensor:
    """NT-Xent whose denominator leaves the positive out; with `sigma`, DCLW, which weighs the positives.

        z = [z1; z2],  s_ij = <z_i, z_j> / temperature,  p(i) = the other view of i's instance
        union:  loss_i = -w_i s_i,p(i) + log sum_{j of other instances} exp(s_ij)
        sum:    loss_i = -w_i s_i,p(i) + log sum_{.. in i's view} exp(s_ij) + log sum_{.. in the other view} exp(s_ij)
        w_i = 1, or 2 - N softmax_i(<z1_i, z2_i> / sigma) over the N instances

    Args:
        z1, z2: `[N, D]`, two views of N instances, usually L2-normalised (nothing is normalised here).
        temperature: > 0, divides the similarities; float or one-element tensor, which receives its gradient.
            On a GPU, where it is not read, 0 or less gives NaN or turns the order around, not an error.
        sigma: None for DCL; DCLW's concentration, 0.5 in the paper.
        detach_weight: whether w is a constant of the gradient. Public codes differ.
        combine: "union" of the negatives of both views (the paper), or the "sum" of two log-sum-exps that some public
            codes have. Public codes also differ by a factor: the paper adds both views' means, twice ours.
        reduction: "mean" over the 2N anchors, "sum", or "none" for `[2N]` losses, z1's anchors first.
        workspace_bytes, backend: see `similarity_statistics`.

    Returns:
        float32 (float64 for float64 inputs). Unbounded below. N = 1 has no negatives and gives 0. "union" visits the
        upper triangle of the 2N x 2N scores.
    """
    check_reduction(reduction)
    check_choice("combine", combine, ("union", "sum"))
    check_pairs("z1", z1, "z2", z2)
    options: dict[str, Any] = {
        "scale": inverse_temperature(temperature, z1),
        "workspace_bytes": workspace_bytes,
        "backend": backend,
    }
    positive = paired_scores(z1, z2, options["scale"])
    if sigma is not None:
        sigma = check_number("sigma", sigma, 0.0, low_belongs=False)
        similarity = paired_scores(z1, z2, 1.0 / sigma)
        weight = 2.0 - z1.shape[0] * (similarity.detach() if detach_weight else similarity).softmax(0)
        positive = weight * positive
    views = torch.stack((z1, z2))
    if combine == "union":
        rows = views.flatten(0, 1)
        negatives = row_lse(rows, rows, candidates=other_instances(views, same_view=True), **options)
    else:
        cross = similarity_statistics(z1, z2, candidates=off_diagonal(), columns=True, **options)
        assert cross.row_lse is not None and cross.col_lse is not None
        negatives = row_lse(views, views, candidates=off_diagonal(), **options).flatten()
        negatives = negatives + torch.cat((cross.row_lse, cross.col_lse))
    return reduce(zero_without_candidates(negatives - positive.repeat(2), negatives), reduction)


class DCLLoss(LossModule):
    """`dcl` as a module: `DCLLoss(temperature=0.1)(z1, z2)`; DCLW is `DCLLoss(sigma=0.5)`."""

    function = staticmethod(dcl)

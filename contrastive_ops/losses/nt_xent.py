"""NT-Xent, the loss of SimCLR (Chen et al. 2020, arXiv 2002.05709)."""

from __future__ import annotations

import torch
from torch import Tensor

from contrastive_ops.losses._common import LossReduction, check_pairs, check_reduction, inverse_temperature, reduce
from contrastive_ops.losses._module import LossModule
from contrastive_ops.losses._rows import row_lse_and_sum
from contrastive_ops.ops import cross_entropy_of_positive
from contrastive_ops.problem import DEFAULT_WORKSPACE_BYTES
from contrastive_ops.relations import different, same


def nt_xent(
    z1: Tensor,
    z2: Tensor,
    *,
    temperature: float | Tensor = 0.5,
    reduction: LossReduction = "mean",
    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES,
    backend: str | None = None,
) -> Tensor:
    """Cross-entropy of each view's partner among all 2N - 1 other views.

        z = [z1; z2],  s_ij = <z_i, z_j> / temperature,  p(i) = the other view of i's instance
        loss_i = -s_i,p(i) + log sum_{j != i} exp(s_ij)

    Args:
        z1, z2: `[N, D]`, two views of N instances, usually L2-normalised (nothing is normalised here).
        temperature: > 0, divides the similarities; float or one-element tensor, which receives its gradient.
            On a GPU, where it is not read, 0 or less gives NaN or turns the order around, not an error.
        reduction: "mean" over the 2N anchors, "sum", or "none" for `[2N]` losses, z1's anchors first.
        workspace_bytes: budget for scores kept from forward for backward.
        backend: see `similarity_statistics`.

    Returns:
        float32 (float64 for float64 inputs). Nothing is detached. N = 1 gives 0. Only the upper triangle of the
        2N x 2N scores is visited.

    Raises:
        ValueError, TypeError: for shapes, dtypes or options that do not fit, naming got and expected.
    """
    check_reduction(reduction)
    check_pairs("z1", z1, "z2", z2)
    views = torch.cat((z1, z2))
    instance = torch.arange(z1.shape[0], device=z1.device).repeat(2)
    lse, positive = row_lse_and_sum(
        views,
        views,
        scale=inverse_temperature(temperature, z1),
        candidates=different(instance),
        positives=same(instance).without_diagonal(),
        workspace_bytes=workspace_bytes,
        backend=backend,
    )
    return reduce(cross_entropy_of_positive(lse, positive), reduction)


class NTXentLoss(LossModule):
    """`nt_xent` as a module: `NTXentLoss(temperature=0.5)(z1, z2)`."""

    function = staticmethod(nt_xent)

"""SupCon: supervised contrastive loss, the L_out form (Khosla et al. 2020, arXiv 2004.11362)."""

from __future__ import annotations

import torch
from torch import Tensor

from contrastive_ops.losses._common import check_reduction, inverse_temperature, reduce
from contrastive_ops.losses._module import TemperatureLoss
from contrastive_ops.ops import similarity_statistics
from contrastive_ops.problem import DEFAULT_WORKSPACE_BYTES, check_matrix
from contrastive_ops.relations import off_diagonal, same


def sup_con(
    features: Tensor,
    labels: Tensor,
    *,
    temperature: float | Tensor = 0.07,
    reduction: str = "mean",
    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES,
    backend: str | None = None,
) -> Tensor:
    """Mean over an anchor's positives of their cross-entropy among all other items.

        s_ij = <z_i, z_j> / temperature,  P(i) = { j != i : label_j == label_i }
        loss_i = log sum_{j != i} exp(s_ij) - mean_{p in P(i)} s_ip

    Args:
        features: `[N, D]`, usually L2-normalised (nothing is normalised here). Several views of an item are several
            rows of one label.
        labels: `[N]` integers.
        temperature: divides the similarities; float or one-element tensor, which receives its gradient.
        reduction: "mean" over the anchors that have a positive, "sum", or "none" for `[N]` losses. An anchor
            without a positive has loss 0 and gradient 0 and is not counted in the mean.
        workspace_bytes: budget for scores kept from forward for backward.
        backend: see `similarity_statistics`.

    Returns:
        float32 (float64 for float64 features). Nothing is detached; no factor temperature / base_temperature.
        Only the upper triangle of the N x N scores is visited.

    Raises:
        ValueError, TypeError: for shapes, dtypes or options that do not fit, naming got and expected.
    """
    check_reduction(reduction)
    check_matrix("features", features)
    row_lse, positive_sum, _, _ = similarity_statistics(
        features,
        features,
        scale=inverse_temperature(temperature),
        candidates=off_diagonal(),
        positives=same(labels) & off_diagonal(),
        workspace_bytes=workspace_bytes,
        backend=backend,
    )
    assert row_lse is not None and positive_sum is not None
    count = _others_of_same_label(labels)
    has_positive = count > 0
    # an anchor alone in the batch has lse = -inf: replaced before it meets a gradient
    losses = row_lse.masked_fill(~has_positive, 0.0) - positive_sum / count.clamp(min=1)
    if reduction == "mean":
        return losses.sum() / has_positive.sum().clamp(min=1)
    return reduce(losses, reduction)


def _others_of_same_label(labels: Tensor) -> Tensor:
    """|P(i)|, [N]; by sorting, so that shapes do not depend on the data."""
    ordered = labels.sort().values
    first = torch.searchsorted(ordered, labels, right=False)
    last = torch.searchsorted(ordered, labels, right=True)
    return last - first - 1


class SupConLoss(TemperatureLoss):
    """`sup_con` as a module: `SupConLoss(temperature=0.07)(features, labels)`."""

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        return sup_con(features, labels, **self.options())

"""SupCon: supervised contrastive loss, L_out and L_in (Khosla et al. 2020, arXiv 2004.11362)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from contrastive_ops.check import check_matrix
from contrastive_ops.losses._checks import check_choice, check_ids
from contrastive_ops.losses._common import LossReduction, check_reduction, inverse_temperature, reduce_counted
from contrastive_ops.losses._counts import count_same
from contrastive_ops.losses._labels import is_labelled
from contrastive_ops.losses._module import LossModule
from contrastive_ops.losses._relations import labelled_pairs
from contrastive_ops.losses._rows import row_lse_and_sum, row_lses
from contrastive_ops.ops import cross_entropy_of_positive
from contrastive_ops.problem import DEFAULT_WORKSPACE_BYTES
from contrastive_ops.reductions import LogSumExp
from contrastive_ops.relations import different


def sup_con(
    features: Tensor,
    labels: Tensor,
    *,
    temperature: float | Tensor = 0.07,
    mean: Literal["outside", "inside"] = "outside",
    ignore_index: int = -1,
    reduction: LossReduction = "mean",
    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES,
    backend: str | None = None,
) -> Tensor:
    """Cross-entropy of an anchor's positives among all other items, their mean outside or inside the logarithm.

        s_ij = <z_i, z_j> / temperature,  P(i) = { j != i : label_j == label_i }
        outside:  loss_i = log sum_{j != i} exp(s_ij) - mean_{p in P(i)} s_ip
        inside:   loss_i = log sum_{j != i} exp(s_ij) - log mean_{p in P(i)} exp(s_ip)

    Args:
        features: `[N, D]`, usually L2-normalised (nothing is normalised here). Several views of an item are several
            rows of one label.
        labels: `[N]` integers.
        temperature: > 0, divides the similarities; float or one-element tensor, which receives its gradient.
            On a GPU, where it is not read, 0 or less gives NaN or turns the order around, not an error.
        mean: "outside" (L_out, the usual one) or "inside" (L_in).
        ignore_index: the label, exactly this number, of items without a class: as anchors they have loss 0 and are not
            counted, and they stay negatives of others.
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
    check_choice("mean", mean, ("outside", "inside"))
    check_matrix("features", features)
    labels = check_ids("labels", labels, features.shape[0])
    options = {
        "scale": inverse_temperature(temperature, features),
        "workspace_bytes": workspace_bytes,
        "backend": backend,
    }
    count = count_same(labels, labels) - 1
    has_positive = (count > 0) & is_labelled(labels, ignore_index)
    candidates, positives = labelled_pairs(labels)
    if mean == "outside":
        lse, total = row_lse_and_sum(features, features, candidates=candidates, positives=positives, **options)
        losses = lse - total / count.clamp(min=1)
    else:
        assert positives is not None
        passed = {"others": LogSumExp(different(labels)), "positives": LogSumExp(positives)}
        others, positive = row_lses(features, features, passed, **options)
        # an anchor alone in its class has none, -inf: replaced before it meets another in a difference
        positive = positive.masked_fill(~has_positive, 0.0)
        # LSE of all - (LSE of the positives - log |P|), the positives kept out of the first
        losses = cross_entropy_of_positive(others, positive) + count.clamp(min=1).to(others.dtype).log()
    # alone in the batch lse = -inf, too: replaced before it meets a gradient
    return reduce_counted(losses.masked_fill(~has_positive, 0.0), has_positive, reduction)


class SupConLoss(LossModule):
    """`sup_con` as a module: `SupConLoss(temperature=0.07)(features, labels)`."""

    function = staticmethod(sup_con)

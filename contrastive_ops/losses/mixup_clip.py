"""M3CoL's mixup phase: CLIP for embeddings that were mixed in pairs (Kumar et al. 2024, arXiv 2409.17777)."""

from __future__ import annotations

from torch import Tensor

from contrastive_ops.losses._checks import check_indices, check_vector
from contrastive_ops.losses._common import (
    LossReduction,
    check_pairs,
    check_reduction,
    in_statistics_dtype,
    inverse_temperature,
    paired_scores,
    reduce,
)
from contrastive_ops.losses._directions import pair_cross_entropies
from contrastive_ops.losses._module import LossModule
from contrastive_ops.problem import DEFAULT_WORKSPACE_BYTES


def mixup_clip_loss(
    mixed: Tensor,
    keys: Tensor,
    partner: Tensor,
    share: Tensor,
    *,
    temperature: float | Tensor = 0.1,
    reduction: LossReduction = "mean",
    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES,
    backend: str | None = None,
) -> Tensor:
    """CLIP whose targets are split between an item's own key and that of the item it was mixed with.

        mixed_i = share_i x_i + (1 - share_i) x_partner(i),  s_ij = <mixed_i, key_j> / temperature
        t_ij = share_i [j = i] + (1 - share_i) [j = partner(i)]
        loss_i = -sum_j t_ij ( log softmax_j s_ij + log softmax_i s_ij ) / 2

    The column softmaxes keep the targets as they are: a column's mass, sum_i t_ij, may differ from 1.

    Args:
        mixed: `[N, D]`, usually L2-normalised after mixing (nothing is mixed or normalised here).
        keys: `[N, D]`, the other modality, not mixed.
        partner: `[N]` integers in [0, N). Where partner(i) = i the target is i with mass 1; the authors' code leaves
            1 - share there.
        share: `[N]`, in [0, 1]; 1 for what was not mixed.
        temperature: > 0, divides the similarities; float or one-element tensor, which receives its gradient.
            On a GPU, where it is not read, 0 or less gives NaN or turns the order around, not an error.
        reduction: "mean", "sum", or "none" for `[N]` losses.
        workspace_bytes, backend: see `similarity_statistics`.

    Returns:
        float32 (float64 for float64 inputs). N = 1 gives 0. share = 1 is `clip_loss`.
    """
    check_reduction(reduction)
    check_pairs("mixed", mixed, "keys", keys)
    partner = check_indices("partner", partner, mixed.shape[0], mixed.shape[0])
    check_vector("share", share, mixed.shape[0])
    scale = inverse_temperature(temperature, mixed)
    rows, columns, own = pair_cross_entropies(mixed, keys, scale, workspace_bytes=workspace_bytes, backend=backend)
    with_partner, rest = paired_scores(mixed, in_statistics_dtype(keys)[partner], scale), 1.0 - share.to(own.dtype)
    # with LSE of row i = s_ii + CE_i:     -log softmax_j s_ip = CE_i + (s_ii - s_ip)
    row_losses = rows + rest * (own - with_partner)
    # with LSE of column p = s_pp + CE_p:  -log softmax_i s_ip = CE_p + (s_pp - s_ip)
    column_losses = columns + rest * ((columns + own)[partner] - columns - with_partner)
    return reduce((row_losses + column_losses) / 2, reduction)


class MixupClipLoss(LossModule):
    """`mixup_clip_loss` as a module: `MixupClipLoss(temperature=0.1)(mixed, keys, partner, share)`."""

    function = staticmethod(mixup_clip_loss)

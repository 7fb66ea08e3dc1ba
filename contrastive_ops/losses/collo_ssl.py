"""ColloSSL, collaborative self-supervision of devices (Jain et al. 2022, arXiv 2202.00758)."""

from __future__ import annotations

import torch
from torch import Tensor

from contrastive_ops.check import check_embeddings, check_matrix
from contrastive_ops.losses._checks import check_indices, check_vector
from contrastive_ops.losses._common import (
    LossReduction,
    check_reduction,
    in_statistics_dtype,
    inverse_temperature,
    paired_scores,
    reduce,
)
from contrastive_ops.losses._module import LossModule
from contrastive_ops.losses._rows import row_lse
from contrastive_ops.ops import cross_entropy_of_positive, merged_along
from contrastive_ops.problem import DEFAULT_WORKSPACE_BYTES
from contrastive_ops.relations import different


def collo_ssl(
    anchors: Tensor,
    positives: Tensor,
    negatives: Tensor,
    *,
    log_positive_weights: Tensor | None = None,
    log_negative_weights: Tensor | None = None,
    samples: Tensor | None = None,
    temperature: float | Tensor = 0.1,
    reduction: LossReduction = "mean",
    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES,
    backend: str | None = None,
) -> Tensor:
    """Devices that see the same moment are positives, in one logarithm; other devices at other moments are negatives.

        s(a, b) = <a, b> / temperature,  P_i = sum_p w_p exp(s(a_i, p_i)),  N_i = sum_n w_n sum_j exp(s(a_i, n_j))
        loss_i = log(P_i + N_i) - log P_i

    Args:
        anchors: `[N, D]`, moments 1..N of the anchor's device, usually L2-normalised (nothing is normalised here).
        positives: `[P, N, D]`, the same moments of P devices.
        negatives: `[G, N, D]`, the same moments of G devices.
        log_positive_weights, log_negative_weights: `[P]` and `[G]`, log w of each device; None for w = 1.
        samples: `[R, N]` integers, the moments of every negative device that anchor i is compared with (the paper's
            time-shifted samples); None for all moments but i.
        temperature: > 0, divides the similarities, not the weights; float or one-element tensor, with gradient.
            On a GPU, where it is not read, 0 or less gives NaN or turns the order around, not an error.
        reduction: "mean", "sum", or "none" for the per-anchor losses `[N]`.
        workspace_bytes, backend: see `similarity_statistics`.

    Returns:
        float32 (float64 for float64 inputs). Without negatives 0. With `samples` no matrix is visited: O(G*R*N*D).
    """
    check_reduction(reduction)
    check_matrix("anchors", anchors)
    n = anchors.shape[0]
    for name, devices, log_weights in (
        ("positives", positives, log_positive_weights),
        ("negatives", negatives, log_negative_weights),
    ):
        check_embeddings(name, devices)
        if devices.dim() != 3 or devices.shape[1:] != anchors.shape:
            raise ValueError(
                f"{name} must be [devices, N, D], N and D of the anchors, got shape {tuple(devices.shape)}"
            )
        if log_weights is not None:
            check_vector(f"log weights of {name}", log_weights, devices.shape[0])
    if positives.shape[0] == 0:
        raise ValueError("positives must hold at least one device, got none")
    if samples is not None:
        indices = check_indices("samples", samples.flatten() if isinstance(samples, Tensor) else samples, n)
        if samples.dim() != 2 or samples.shape[1] != n:
            raise ValueError(f"samples must be [R, N={n}], got shape {tuple(samples.shape)}")
        samples = indices.view(samples.shape)
    scale = inverse_temperature(temperature, anchors)
    positive = _weighted(paired_scores(anchors, positives, scale), log_positive_weights)  # [P, N]
    if samples is not None:
        each = paired_scores(anchors, in_statistics_dtype(negatives)[:, samples], scale).flatten(1)  # [G, R * N]
        lse = merged_along(_weighted(each, log_negative_weights).view(-1, n), 0)
    else:
        moments = torch.arange(n, device=anchors.device)
        lse = row_lse(
            anchors,
            negatives.flatten(0, 1),
            scale=scale,
            col_bias=None if log_negative_weights is None else log_negative_weights.repeat_interleave(n),
            candidates=different(moments, moments.repeat(negatives.shape[0])),
            workspace_bytes=workspace_bytes,
            backend=backend,
        )
    return reduce(cross_entropy_of_positive(lse, merged_along(positive, 0)), reduction)


def _weighted(scores: Tensor, log_weights: Tensor | None) -> Tensor:
    """Scores `[devices, ...]` with the log-weight of each device added."""
    return scores if log_weights is None else scores + log_weights.to(scores)[:, None]


class ColloSSLLoss(LossModule):
    """`collo_ssl` as a module: `ColloSSLLoss(temperature=0.1)(anchors, positives, negatives)`."""

    function = staticmethod(collo_ssl)

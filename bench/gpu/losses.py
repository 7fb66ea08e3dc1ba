"""Losses and their dense formulas on the same leaves, for comparison in float64 at any size and on any device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastive_ops import (
    clip_loss,
    diagonal,
    gram_loss,
    info_nce,
    nt_xent,
    off_diagonal,
    similarity_statistics,
    volume_statistics,
)
from contrastive_ops.problem import statistics_dtype
from contrastive_ops.testing import dense_clip_loss

SCALE, TEMPERATURE = 14.25, 0.125

Leaves = dict[str, Tensor]


class Loss(NamedTuple):
    """`ours(leaves, backend=..., workspace_bytes=...)` is to equal `dense(leaves)`."""

    leaves: dict[str, str]  # name: "rows" [N, D], "columns" [N - N // 4, D], "row" [N], "column" or a number
    ours: Callable[..., Tensor]
    dense: Callable[[Leaves], Tensor]


def make_leaves(loss: Loss, n: int, d: int, dtype: torch.dtype, device: torch.device) -> Leaves:
    """Unit vectors whose row i are correlated, as halfway through training."""
    generator = torch.Generator().manual_seed(0)
    shared = torch.randn(n, d, generator=generator)
    sizes = {"rows": n, "row": n, "columns": n - n // 4, "column": n - n // 4}
    leaves = {}
    for name, kind in loss.leaves.items():
        if kind in ("rows", "columns"):
            value = F.normalize(shared + torch.randn(n, d, generator=generator), dim=-1)[: sizes[kind]].to(dtype)
        elif kind in ("row", "column"):
            value = torch.randn(sizes[kind], generator=generator).to(statistics_dtype(dtype))
        else:
            value = torch.tensor(float(kind), dtype=statistics_dtype(dtype))
        leaves[name] = value.to(device).requires_grad_()
    return leaves


def unaligned(leaves: Leaves) -> Leaves:
    """The same embeddings where no row starts at a multiple of 16 bytes, as a part of wider rows."""

    def moved(value: Tensor) -> Tensor:
        wide = value.new_full((value.shape[0], value.shape[1] + 3), torch.nan)
        view = wide[:, 1 : 1 + value.shape[1]]
        view.copy_(value)
        return view

    return {
        name: moved(value.detach()).requires_grad_() if value.dim() == 2 else value for name, value in leaves.items()
    }


# --- the formulas ---


def _dense_info_nce(x: Leaves) -> Tensor:
    logits = x["queries"] @ x["keys"].mT / x["temperature"]
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


def _dense_nt_xent(x: Leaves) -> Tensor:
    views = torch.cat((x["z1"], x["z2"]))
    itself = torch.eye(len(views), dtype=torch.bool, device=views.device)
    logits = (views @ views.mT / x["temperature"]).masked_fill(itself, -torch.inf)
    return F.cross_entropy(logits, torch.arange(len(views), device=views.device).roll(len(x["z1"])))


def _statistics(x: Leaves, **options: Any) -> Tensor:
    found = similarity_statistics(
        x["queries"],
        x["keys"],
        scale=x["scale"],
        row_bias=x["row_bias"],
        col_bias=x["col_bias"],
        candidates=off_diagonal(),
        positives=diagonal(),
        columns=True,
        **options,
    )
    return _weighted([value for value in found if value is not None])


def _dense_statistics(x: Leaves) -> Tensor:
    return _dense_lines(x["scale"] * (x["queries"] @ x["keys"].mT) + x["row_bias"][:, None] + x["col_bias"])


def _volumes(x: Leaves, **options: Any) -> Tensor:
    found = volume_statistics(
        x["anchor"],
        _modalities(x),
        scale=x["scale"],
        row_bias=x["row_bias"],
        col_bias=x["col_bias"],
        candidates=off_diagonal(),
        positives=diagonal(),
        columns=True,
        **options,
    )
    return _weighted([value for value in found if value is not None])


def _dense_volumes(x: Leaves) -> Tensor:
    return _dense_lines(x["scale"] * _volume_matrix(x) + x["row_bias"][:, None] + x["col_bias"])


def _dense_lines(scores: Tensor) -> Tensor:
    """Statistics of the off-diagonal candidates and the diagonal positives, in the order of `Statistics`."""
    m, n = scores.shape
    positive = torch.arange(m, device=scores.device)[:, None] == torch.arange(n, device=scores.device)
    candidates = scores.masked_fill(positive, -torch.inf)
    positives = scores.masked_fill(~positive, 0.0)
    return _weighted([candidates.logsumexp(1), positives.sum(1), candidates.logsumexp(0), positives.sum(0)])


def _weighted(lines: list[Tensor]) -> Tensor:
    """One number in which every line counts differently."""
    return sum(  # type: ignore[return-value]
        (line * torch.linspace(0.5, 1.5, len(line), dtype=line.dtype, device=line.device)).sum() for line in lines
    )


def _modalities(x: Leaves) -> list[Tensor]:
    return [value for name, value in x.items() if name.startswith("modality")]


def _volume_matrix(x: Leaves) -> Tensor:
    """sqrt(det G_ij) of (a_i, x^1_j, ..., x^K_j), products first: the vectors side by side would not fit."""
    anchor, modalities = x["anchor"], _modalities(x)
    m, n = len(anchor), len(modalities[0])
    across = [anchor @ modality.mT for modality in modalities]
    rows = [torch.stack([anchor.square().sum(1)[:, None].expand(m, n), *across], -1)]
    for first, line in zip(modalities, across, strict=True):
        rows.append(torch.stack([line, *((first * second).sum(1).expand(m, n) for second in modalities)], -1))
    return torch.linalg.det(torch.stack(rows, -2)).abs().sqrt()


def _dense_gram(x: Leaves) -> Tensor:
    logits = -_volume_matrix(x) / x["temperature"]
    target = torch.arange(len(logits), device=logits.device)
    return 0.5 * (F.cross_entropy(logits, target) + F.cross_entropy(logits.mT, target))


def _gram(count: int) -> Loss:
    modalities = {f"modality{k}": "rows" for k in range(count)}
    return Loss(
        {"anchor": "rows", **modalities, "temperature": "0.25"},
        lambda x, **o: gram_loss(x["anchor"], _modalities(x), temperature=x["temperature"], **o),
        _dense_gram,
    )


PAIRS = {"images": "rows", "texts": "rows", "scale": str(SCALE)}
BIASES = {"row_bias": "row", "col_bias": "column"}

LOSSES = {
    "clip_loss": Loss(
        PAIRS,
        lambda x, **o: clip_loss(x["images"], x["texts"], x["scale"], **o),
        lambda x: dense_clip_loss(x["images"], x["texts"], x["scale"]),
    ),
    "info_nce": Loss(
        {"queries": "rows", "keys": "rows", "temperature": str(TEMPERATURE)},
        lambda x, **o: info_nce(x["queries"], x["keys"], temperature=x["temperature"], **o),
        _dense_info_nce,
    ),
    "nt_xent": Loss(
        {"z1": "rows", "z2": "rows", "temperature": str(TEMPERATURE)},
        lambda x, **o: nt_xent(x["z1"], x["z2"], temperature=x["temperature"], **o),
        _dense_nt_xent,
    ),
    "statistics": Loss(
        {"queries": "rows", "keys": "columns", "scale": str(SCALE), **BIASES}, _statistics, _dense_statistics
    ),
    "volume_statistics, K = 2": Loss(
        {"anchor": "rows", "modality0": "columns", "modality1": "columns", "scale": "-4", **BIASES},
        _volumes,
        _dense_volumes,
    ),
    **{f"gram_loss, K = {count}": _gram(count) for count in (1, 2, 3, 7)},
}

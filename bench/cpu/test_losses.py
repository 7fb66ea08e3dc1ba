"""Every loss beside its dense formula, forward and with gradients, checked first."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from bench.cpu.contestants import FORWARD, LOGIT_SCALE, MODES, TRAINING
from bench.cpu.truth import TOLERANCE, WrongResult
from bench.shapes import Shape
from contrastive_ops import clip_loss, info_nce, nt_xent, sup_con
from contrastive_ops.testing import dense_clip_loss, make_pairs, norm_error

CLASSES = 100
TEMPERATURE = 1 / LOGIT_SCALE

PairLoss = Callable[[Tensor, Tensor], Tensor]


class Pair(NamedTuple):
    """A loss of ours, given its backend, and the dense formula of the same."""

    ours: Callable[[str | None], PairLoss]
    dense: PairLoss


def dense_info_nce(x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(x @ y.mT / TEMPERATURE, torch.arange(len(x)))


def dense_nt_xent(x: Tensor, y: Tensor) -> Tensor:
    views = torch.cat((x, y))
    logits = (views @ views.mT / TEMPERATURE).fill_diagonal_(-torch.inf)
    return F.cross_entropy(logits, torch.arange(len(views)).roll(len(x)))


def labels_of(x: Tensor, y: Tensor) -> Tensor:
    return (torch.arange(len(x)) % CLASSES).repeat(2)


def dense_sup_con(x: Tensor, y: Tensor) -> Tensor:
    features, labels = torch.cat((x, y)), labels_of(x, y)
    logits = features @ features.mT / TEMPERATURE
    others = ~torch.eye(len(features), dtype=torch.bool)
    positives = (labels[:, None] == labels) & others
    log_p = logits - logits.masked_fill(~others, -torch.inf).logsumexp(1, keepdim=True)
    return -(log_p.masked_fill(~positives, 0.0).sum(1) / positives.sum(1)).mean()


PAIRS = {
    "clip_loss": Pair(
        lambda backend: lambda x, y: clip_loss(x, y, LOGIT_SCALE, backend=backend),
        lambda x, y: dense_clip_loss(x, y, LOGIT_SCALE),
    ),
    "info_nce": Pair(
        lambda backend: lambda x, y: info_nce(x, y, temperature=TEMPERATURE, backend=backend), dense_info_nce
    ),
    "nt_xent": Pair(
        lambda backend: lambda x, y: nt_xent(x, y, temperature=TEMPERATURE, backend=backend), dense_nt_xent
    ),
    "sup_con": Pair(
        lambda backend: (
            lambda x, y: sup_con(torch.cat((x, y)), labels_of(x, y), temperature=TEMPERATURE, backend=backend)
        ),
        dense_sup_con,
    ),
}


def refuse_disagreement(ours: PairLoss, dense: PairLoss, x: Tensor, y: Tensor) -> None:
    """Raise unless value and gradients agree with the dense formula."""
    results = []
    for loss in (ours, dense):
        value = loss(x, y)
        results.append((value, *torch.autograd.grad(value, (x, y))))
    for part, got, expected in zip(("loss", "dx", "dy"), *results, strict=True):
        error = norm_error(got, expected)
        if not error <= TOLERANCE:
            raise WrongResult(f"{part} differs from the dense formula by {error:.1e}, allowed {TOLERANCE:.0e}")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("who", ["ours", "dense"])
@pytest.mark.parametrize("name", list(PAIRS))
def test_loss(
    benchmark: BenchmarkFixture, shape: Shape, name: str, who: str, mode: str, loss_backend: str | None
) -> None:
    if shape.n > 8192:
        pytest.skip("the dense formula would need more than 8 GiB")
    x, y = (value.requires_grad_() for value in make_pairs(shape.n, shape.d))
    ours, dense = PAIRS[name].ours(loss_backend), PAIRS[name].dense
    refuse_disagreement(ours, dense, x, y)
    loss = ours if who == "ours" else dense

    def step() -> None:
        with torch.set_grad_enabled(mode == TRAINING):
            value = loss(x, y)
        if mode != FORWARD:
            value.backward()

    def restart() -> None:
        x.grad = y.grad = None

    benchmark.group = f"{name} {shape} {mode}"
    rounds = max(3, min(50, int(2e10 / (shape.n**2 * shape.d))))
    benchmark.pedantic(step, setup=restart, rounds=rounds, warmup_rounds=1)

"""The training loop, with the library's loss or with the dense one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from code_search_lib.features import Bags, Batch, take
from code_search_lib.model import TwoTowers
from contrastive_ops import clip_loss

LossFunction = Callable[[Tensor, Tensor, Tensor], Tensor]
WARMUP_STEPS = 5
FEATURE_DROPOUT = 0.2  # share of features that a step does not see, so that the table memorises less
WEIGHT_DECAY = 10.0  # times the learning rate; strong, for the same reason


@dataclass(frozen=True)
class Recipe:
    """What makes two runs equal but for their loss function."""

    steps: int
    batch_size: int
    learning_rate: float
    seed: int


@dataclass
class History:
    losses: list[float] = field(default_factory=list)
    scales: list[float] = field(default_factory=list)
    loss_seconds: list[float] = field(default_factory=list)  # of the loss alone, forward and backward
    step_seconds: list[float] = field(default_factory=list)


def library_loss(backend: str | None) -> LossFunction:
    """`contrastive_ops.clip_loss` on the named backend, or on the best one for None."""
    return lambda docstrings, code, scale: clip_loss(docstrings, code, scale, backend=backend)


def dense_loss(docstring_vectors: Tensor, code_vectors: Tensor, scale: Tensor) -> Tensor:
    """The usual CLIP loss over the whole `[N, N]` matrix, for comparison."""
    logits = scale * docstring_vectors @ code_vectors.T
    targets = torch.arange(len(logits))
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2


def train(
    model: TwoTowers,
    docstrings: Bags,
    code: Bags,
    recipe: Recipe,
    loss_function: LossFunction,
    history: History,
    steps: int | None = None,
) -> Iterator[int]:
    """Train; yields the number of finished steps after each one.

    `steps` ends it earlier than the recipe says, on the same schedule of learning rates.
    """
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}],
        lr=recipe.learning_rate,
        betas=(0.9, 0.98),
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate_factor(step, recipe.steps))
    random = np.random.default_rng(recipe.seed)
    batches = _batches(len(docstrings), recipe.batch_size, random)
    for step in range(1, (recipe.steps if steps is None else steps) + 1):
        start = time.perf_counter()
        rows = next(batches)
        docstring_vectors = model.docstring_tower(_drop(take(docstrings, rows, model.idf), random))
        code_vectors = model.code_tower(_drop(take(code, rows, model.idf), random))
        scale = model.scale()

        # The loss gets leaves of its own, so that its backward pass can be timed apart from that of the towers.
        leaves = [tensor.detach().requires_grad_() for tensor in (docstring_vectors, code_vectors, scale)]
        loss_start = time.perf_counter()
        loss = loss_function(*leaves)
        loss.backward()
        loss_seconds = time.perf_counter() - loss_start

        optimizer.zero_grad()
        torch.autograd.backward([docstring_vectors, code_vectors, scale], [leaf.grad for leaf in leaves])
        optimizer.step()
        schedule.step()
        model.clamp_scale()

        history.losses.append(loss.item())
        history.scales.append(model.scale().item())
        history.loss_seconds.append(loss_seconds)
        history.step_seconds.append(time.perf_counter() - start)
        yield step


def _rate_factor(step: int, steps: int) -> float:
    """Linear warm-up, then half a cosine down to 2%."""
    if step < WARMUP_STEPS:
        return (step + 1) / WARMUP_STEPS
    return 0.02 + 0.49 * (1 + math.cos(math.pi * (step - WARMUP_STEPS) / max(1, steps - WARMUP_STEPS)))


def _batches(count: int, batch_size: int, random: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Endless shuffled epochs; the rest of an epoch that fills no batch is left out."""
    while True:
        order = random.permutation(count)
        for i in range(0, count - batch_size + 1, batch_size):
            yield order[i : i + batch_size]


def _drop(batch: Batch, random: np.random.Generator) -> Batch:
    kept = torch.from_numpy(random.random(len(batch.ids), np.float32) >= FEATURE_DROPOUT)
    return batch._replace(weights=batch.weights * kept)

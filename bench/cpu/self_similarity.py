"""NT-Xent, where queries are the keys, against the same statistics without the shortcut of the upper triangle."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bench.cpu.suite import Settings
from bench.cpu.timing import Job, alternate
from bench.cpu.truth import TOLERANCE, WrongResult
from contrastive_ops import different, nt_xent, off_diagonal, same, similarity_statistics
from contrastive_ops.testing import make_pairs, norm_error

TEMPERATURE = 0.5


def nt_xent_without_shortcut(z1: Tensor, z2: Tensor, *, backend: str | None = None) -> Tensor:
    """The same loss; the keys are a clone, so that the library cannot know that they are the queries."""
    views = torch.cat((z1, z2))
    instance = torch.arange(z1.shape[0]).repeat(2)
    lse_negatives, positive, _, _ = similarity_statistics(
        views,
        views.clone(),
        scale=1 / TEMPERATURE,
        candidates=different(instance),
        positives=same(instance) & off_diagonal(),
        backend=backend,
    )
    assert lse_negatives is not None and positive is not None
    return -torch.nn.functional.logsigmoid(positive - lse_negatives).mean()


def time_self_similarity(views: int, d: int, settings: Settings) -> tuple[Job, Job]:
    """(with, without) the shortcut on 2N = `views` embeddings; WrongResult if the two disagree."""
    z1, z2 = (z.requires_grad_() for z in make_pairs(views // 2, d))

    def restart() -> None:
        z1.grad = z2.grad = None

    losses: dict[str, Callable[[], Tensor]] = {
        "nt_xent": lambda: nt_xent(z1, z2, temperature=TEMPERATURE, backend=settings.backend),
        "nt_xent without shortcut": lambda: nt_xent_without_shortcut(z1, z2, backend=settings.backend),
    }
    found = []
    for loss in losses.values():
        restart()
        value = loss()
        value.backward()
        assert z1.grad is not None and z2.grad is not None
        found.append((value.detach(), z1.grad, z2.grad))
    for got, expected in zip(*found, strict=True):
        error = norm_error(got, expected)
        if not error <= TOLERANCE:
            raise WrongResult(f"nt_xent with and without the shortcut differ by {error:.1e}, allowed {TOLERANCE:.0e}")

    def training_step(loss: Callable[[], Tensor]) -> Callable[[], None]:
        return lambda: loss().backward()

    fast, slow = (
        Job(name, "forward+backward", training_step(loss), restart, repeats=True) for name, loss in losses.items()
    )
    alternate(
        (fast, slow),
        rounds=settings.rounds,
        least_rounds=settings.least_rounds,
        budget_seconds=settings.budget_seconds,
        peak_meter=settings.peak_meter,
        progress=settings.progress,
    )
    return fast, slow

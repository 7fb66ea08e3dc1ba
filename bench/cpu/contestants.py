"""What is compared: each contestant is a loss with gradients, but for the bare matrix products, which are the floor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.shapes import Shape
from contrastive_ops import clip_loss
from contrastive_ops.problem import DEFAULT_WORKSPACE_BYTES
from contrastive_ops.testing import dense_clip_loss, make_pairs

MIB = 1 << 20
FORWARD, TRAINING = "forward", "forward+backward"
MODES = (FORWARD, TRAINING)

BUDGETS = {"ours": DEFAULT_WORKSPACE_BYTES, "ours_512": 512 * MIB, "ours_0": 0}
LOGIT_SCALE = 1 / 0.07  # where CLIP starts

LossFunction = Callable[[Tensor, Tensor, Tensor], Tensor]
Step = Callable[[], None]


@dataclass(frozen=True)
class Inputs:
    """Leaves with gradient; `restart` drops the gradients, so that a step allocates them as in training."""

    x: Tensor
    y: Tensor
    scale: Tensor

    @classmethod
    def make(cls, shape: Shape) -> Inputs:
        x, y = make_pairs(shape.n, shape.d)
        return cls(x.requires_grad_(), y.requires_grad_(), torch.tensor(LOGIT_SCALE, requires_grad=True))

    def restart(self) -> None:
        self.x.grad = self.y.grad = self.scale.grad = None


@dataclass(frozen=True)
class Contestant:
    """One row of the table."""

    name: str
    label: str
    make_loss: Callable[[], LossFunction] | None  # None: bare products
    peak_bytes: Callable[[Shape], int]  # a rough upper estimate, to leave out what would not fit
    modes: tuple[str, ...] = MODES
    ours: bool = False

    @property
    def is_loss(self) -> bool:
        return self.make_loss is not None

    def make_step(self, inputs: Inputs, mode: str) -> Step:
        """A function that does the work once; forward alone runs without autograd, as in evaluation."""
        if self.make_loss is None:
            return _products_step(inputs, mode, preallocated=self.name == "products_out")
        loss = self.make_loss()
        if mode == TRAINING:
            return lambda: loss(inputs.x, inputs.y, inputs.scale).backward()

        def forward() -> None:
            with torch.no_grad():
                loss(inputs.x, inputs.y, inputs.scale)

        return forward


def clip_contestants(backend: str | None = None) -> dict[str, Contestant]:
    """All contestants of the symmetric CLIP loss by name; `backend` is that of ours."""

    def ours(name: str, label: str, workspace_bytes: int, modes: tuple[str, ...] = MODES) -> Contestant:
        return Contestant(
            name,
            label,
            lambda: partial(clip_loss, workspace_bytes=workspace_bytes, backend=backend),
            # kept scores never exceed the whole matrix; two blocks of 16 MiB in the chunked backend
            lambda shape: 4 * shape.inputs_bytes + min(workspace_bytes, shape.scores_bytes) + 64 * MIB,
            modes,
            ours=True,
        )

    found = [
        # forward alone keeps no scores, so the budget is of no consequence there
        ours("ours", "ours", BUDGETS["ours"]),
        ours("ours_512", "ours, 512 MiB", BUDGETS["ours_512"], (TRAINING,)),
        ours("ours_0", "ours, budget 0", BUDGETS["ours_0"], (TRAINING,)),
        Contestant("dense", "dense eager", lambda: dense_clip_loss, lambda s: 3 * s.inputs_bytes + 5 * s.scores_bytes),
        Contestant("compile", "torch.compile", _compiled_dense, lambda s: 3 * s.inputs_bytes + 3 * s.scores_bytes),
        Contestant("products", "bare products", None, lambda s: 2 * s.inputs_bytes + 2 * s.scores_bytes),
        Contestant("products_out", "bare products, out=", None, lambda s: 2 * s.inputs_bytes + 2 * s.scores_bytes),
    ]
    if hasattr(F, "linear_cross_entropy"):
        chunked = Contestant(
            "linear_ce", "linear_cross_entropy x2", lambda: _linear_cross_entropy_twice, lambda s: 10 * s.inputs_bytes
        )
        found.insert(5, chunked)
    return {contestant.name: contestant for contestant in found}


def _compiled_dense() -> LossFunction:
    # dynamic=False gives the compiler its best case; torch._dynamo.reset() between shapes keeps its cache limit away
    return torch.compile(dense_clip_loss, dynamic=False, fullgraph=True)


def _linear_cross_entropy_twice(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    """Both directions in chunks by PyTorch's own operator, with the scale folded into one side."""
    options = torch.nn.LinearCrossEntropyOptions()
    target = torch.arange(x.shape[0])
    scaled = scale * x
    forth = F.linear_cross_entropy(scaled, y, target, options=options)
    back = F.linear_cross_entropy(y, scaled, target, options=options)
    return 0.5 * (forth + back)


def _products_step(inputs: Inputs, mode: str, *, preallocated: bool) -> Step:
    """x @ y.T alone for forward; with P @ y and P.T @ x for training: what no dense method can avoid.

    `preallocated`: into tensors that exist and were touched (no page faults); otherwise freshly allocated ones.
    """
    x, y = inputs.x.detach(), inputs.y.detach()
    if not preallocated:

        def fresh() -> None:
            scores = torch.mm(x, y.mT)
            if mode == TRAINING:
                torch.mm(scores, y), torch.mm(scores.mT, x)

        return fresh

    scores, dx, dy = torch.zeros(len(x), len(y)), torch.zeros_like(x), torch.zeros_like(y)

    def reused() -> None:
        torch.mm(x, y.mT, out=scores)
        if mode == TRAINING:
            torch.mm(scores, y, out=dx)
            torch.mm(scores.mT, x, out=dy)

    return reused

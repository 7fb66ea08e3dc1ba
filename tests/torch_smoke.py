"""Losses on the CPU beside the installed torch: values, gradients, autocast, one compiled graph, the choice for a GPU.

python tests/torch_smoke.py          prints a line of JSON; fails with the first wrong number
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from contrastive_ops import clip_loss, gram_loss, info_nce, nt_xent, sup_con
from contrastive_ops.backends import select_backend
from contrastive_ops.build_problem import build_problem
from contrastive_ops.ops.statistics import statistics_reductions

FULL_GRAPH_SINCE = (2, 8)  # before, Dynamo traces no named tuple that a function takes from elsewhere
N, D = 60, 24
LABELS = torch.arange(N) % 7

LOSSES: dict[str, Callable[..., Tensor]] = {
    "clip": lambda a, b, scale, **options: clip_loss(a, b, scale, label_smoothing=0.1, **options),
    "info_nce": lambda a, b, scale, **options: info_nce(a, b, temperature=1 / scale, **options),
    "nt_xent": lambda a, b, scale, **options: nt_xent(a, b, temperature=1 / scale, **options),
    "sup_con": lambda a, b, scale, **options: sup_con(a, LABELS[: len(a)], temperature=1 / scale, **options),
    "gram": lambda a, b, scale, **options: gram_loss(a, [b, b.flip(0)], temperature=1 / scale, **options),
}


def leaves(dtype: torch.dtype, n: int = N) -> list[Tensor]:
    torch.manual_seed(0)
    rows = [torch.nn.functional.normalize(torch.randn(n, D), dim=1).to(dtype) for _ in range(2)]
    return [x.requires_grad_() for x in (*rows, torch.tensor(9.0, dtype=dtype))]


def results(loss: Callable[..., Tensor], inputs: list[Tensor], **options: Any) -> list[Tensor]:
    value = loss(*inputs, **options)
    return [value.detach(), *torch.autograd.grad(value, inputs, allow_unused=True, materialize_grads=True)]


def worst(found: list[Tensor], expected: list[Tensor]) -> float:
    def error(x: Tensor, y: Tensor) -> float:
        return float((x.double() - y.double()).norm() / y.double().norm().clamp(min=1e-3))

    return max(error(x, y) for x, y in zip(found, expected, strict=True))


def check(what: str, error: float, bound: float, errors: dict[str, float]) -> None:
    assert error <= bound, f"{what}: error {error:.2e}, at most {bound:.0e} expected"  # NaN fails as well
    errors[what] = float(f"{error:.2g}")


def choice_for_a_gpu() -> tuple[str, list[str]]:
    """(backend, warnings) for tensors that would be on one, with the triton that is installed."""
    with FakeTensorMode(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rows = torch.empty((8, 4), device="cuda")
        name = select_backend(
            build_problem(rows, rows.clone(), statistics_reductions(None, None, columns=True)).with_batch(), None
        ).name
    return name, [str(warning.message) for warning in caught]


def main() -> None:
    errors: dict[str, float] = {}
    compiles = tuple(map(int, torch.__version__.split(".")[:2])) >= FULL_GRAPH_SINCE
    for name, loss in LOSSES.items():
        plain = results(loss, leaves(torch.float32))
        truth = results(loss, leaves(torch.float64), backend="reference")
        check(f"{name} float32", worst(plain, truth), 1e-5, errors)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            check(f"{name} autocast", worst(results(loss, leaves(torch.float32)), truth), 5e-2, errors)
        if compiles:
            compiled = torch.compile(loss, fullgraph=True, dynamic=True, backend="aot_eager")
            check(f"{name} compiled", worst(results(compiled, leaves(torch.float32)), plain), 1e-6, errors)
    backend, said = choice_for_a_gpu()
    print(json.dumps({"torch": torch.__version__, "errors": errors, "gpu": backend, "warnings": said}))


if __name__ == "__main__":
    sys.exit(main())

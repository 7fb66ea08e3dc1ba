"""The statistics matrix of the tests on a device: the same cases, truths and bounds; tensors travel there and back.

The cases of a dtype come in an order that spreads over all relations, shapes and options: as many as time allows are a
sample of all.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bench.gpu.case import Case, Row, Setting, Skipped
from bench.gpu.journal import OK, WRONG
from bench.gpu.machine import refusals
from bench.gpu.verdict import same_bits
from contrastive_ops import similarity_statistics
from contrastive_ops.ops.statistics import Statistics
from contrastive_ops.relations import Relation
from contrastive_ops.testing import Case as Problem
from contrastive_ops.testing.matrix import CASES
from contrastive_ops.testing.verdicts import bounds, solve


def cases(setting: Setting, backend: str, dtype: str) -> list[Case]:
    names = {str(case): case for case in CASES}
    return [
        Case(
            {"what": name, "dtype": dtype, "backend": backend},
            partial(_check, setting, names[name], getattr(torch, dtype), backend),
        )
        for name in sorted(names, key=lambda name: zlib.crc32(name.encode()))
    ]


def _check(setting: Setting, case: Problem, dtype: torch.dtype, backend: str) -> Row:
    """Right, and the same bits in a second run."""
    if reasons := refusals(backend, setting.device):
        raise Skipped("; ".join(reasons))
    with _poisoned_memory():
        results, again = (solve(case, dtype, backend, statistics_of=_on_device(setting.device)) for _ in range(2))
        found = bounds(results, case, dtype, backend)
    errors = {f"error_{bound.what}": bound.error for bound in found if bound.what in results}
    wrong = next((f"{x.what}: {x.error} against {x.allowed}" for x in found if not x.holds), None)
    if wrong is None and not all(same_bits(again[key], value) for key, value in results.items()):
        wrong = "not the same bits in a second run"
    return errors | ({"verdict": OK} if wrong is None else {"verdict": WRONG, "why": wrong})


@contextmanager
def _poisoned_memory() -> Iterator[None]:
    """torch.empty hands out NaN, as in the tests: what a kernel leaves unwritten shows in the numbers."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def _on_device(device: torch.device) -> Callable[..., Statistics]:
    """`similarity_statistics` whose tensors travel to the device and back, in the same layout and with their roles."""

    def call(queries: Tensor, keys: Tensor, **options: Any) -> Statistics:
        places: dict[int, Tensor] = {}  # one tensor in two roles stays one tensor

        def place(value: Any) -> Any:
            if isinstance(value, Relation):
                return Relation(
                    tuple(
                        dataclasses.replace(c, row_ids=place(c.row_ids), col_ids=place(c.col_ids))
                        for c in value.clauses
                    )
                )
            if not isinstance(value, Tensor):
                return value
            if id(value) not in places:
                places[id(value)] = _Placed.apply(value, device)  # type: ignore[no-untyped-call]
            return places[id(value)]

        moved = similarity_statistics(place(queries), place(keys), **{key: place(x) for key, x in options.items()})
        return Statistics(*(None if value is None else value.cpu() for value in moved))

    return call


class _Placed(torch.autograd.Function):
    """A copy on a device with the strides of the original, whose gradient comes back."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, device: torch.device) -> Tensor:
        value = value.detach()
        flat = torch.empty(0, dtype=value.dtype).set_(value.untyped_storage())  # also what lies between the rows
        copy = flat.to(device, copy=True).as_strided(value.shape, value.stride(), value.storage_offset())
        return torch._neg_view(copy) if value.is_neg() else copy

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient.cpu(), None

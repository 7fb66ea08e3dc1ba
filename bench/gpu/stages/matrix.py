"""The statistics matrix of the tests on a device: the same cases, truth and bounds, with the tensors moved there.

The cases of a dtype come in an order that spreads over all relations, shapes and options: as many as time allows are a
sample of all.
"""

from __future__ import annotations

import dataclasses
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from bench.gpu.case import Case, Row, Setting, Skipped
from bench.gpu.journal import OK, WRONG
from bench.gpu.machine import refusals
from bench.gpu.rehearsal import tests_importable
from bench.gpu.verdict import same_bits
from contrastive_ops import similarity_statistics
from contrastive_ops.ops.statistics import Statistics
from contrastive_ops.relations import Relation
from contrastive_ops.testing import norm_error


def cases(setting: Setting, backend: str, dtype: str) -> list[Case]:
    with _matrix_on(setting.device) as matrix:
        names = {str(case): case for case in matrix.CASES}
    return [
        Case(
            {"what": name, "dtype": dtype, "backend": backend},
            partial(_check, setting, names[name], getattr(torch, dtype), backend),
        )
        for name in sorted(names, key=lambda name: zlib.crc32(name.encode()))
    ]


def _check(setting: Setting, case: Any, dtype: torch.dtype, backend: str) -> Row:
    """Right, and the same bits in a second run."""
    if reasons := refusals(backend, setting.device):
        raise Skipped("; ".join(reasons))
    kept: dict[str, Any] = {}

    def keeping(key: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            result = function(*args)
            kept.setdefault(key, result)  # the truth is the first dense result, in float64
            return result

        return call

    with ExitStack() as stack:
        matrix = stack.enter_context(_matrix_on(setting.device))
        stack.enter_context(_poisoned_memory())
        stack.enter_context(mock.patch.object(matrix, "run", keeping("results", matrix.run)))
        stack.enter_context(mock.patch.object(matrix, "dense_results", keeping("truth", matrix.dense_results)))
        wrong = None
        try:
            matrix.check_case(case, dtype, backend)
        except AssertionError as error:
            if kept.keys() < {"results", "truth"}:
                raise  # one of the library's own
            wrong = (str(error).splitlines() or ["out of bounds"])[0]
        again = matrix.run(case, dtype, backend)
    truth = kept["truth"]
    errors = {
        f"error_{key}": norm_error(kept["results"][key], true, truth.sizes.get(key))
        for key, true in truth.results.items()
        if key in kept["results"]
    }
    if wrong is None and not all(same_bits(again[key], value) for key, value in kept["results"].items()):
        wrong = "not the same bits in a second run"
    return errors | ({"verdict": OK} if wrong is None else {"verdict": WRONG, "why": wrong})


@contextmanager
def _matrix_on(device: torch.device) -> Iterator[ModuleType]:
    """tests/test_statistics_matrix.py with its problems solved on `device`; truth and comparison stay on the CPU."""
    # the tests' conftest would choose Triton's interpreter for the whole process
    stand_in = SimpleNamespace(AVAILABLE_BACKENDS=[], SLOW_BACKENDS=())
    with tests_importable(), mock.patch.dict(sys.modules, {"conftest": stand_in}):
        import test_statistics_matrix as matrix
    with mock.patch.object(matrix, "similarity_statistics", _on_device(device)):
        yield matrix


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

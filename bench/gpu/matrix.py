"""The statistics matrix of the tests on a device: the same cases, truth and bounds, with the tensors moved there."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from bench import REPOSITORY
from contrastive_ops import clip_loss, similarity_statistics
from contrastive_ops.problem import Statistics
from contrastive_ops.relations import Relation
from contrastive_ops.testing import DTYPES, Case, make_pairs, norm_error

TESTS = REPOSITORY / "tests"


@dataclasses.dataclass
class MatrixOutcome:
    cases: int = 0
    failures: list[str] = dataclasses.field(default_factory=list)  # case and what was wrong
    not_repeatable: list[str] = dataclasses.field(default_factory=list)
    worst: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)  # dtype -> quantity -> error


def run_matrix(
    device: torch.device, backend: str, limit: int | None, progress: Callable[[int, int], None]
) -> MatrixOutcome:
    """Every case in every dtype, twice: right, and the same bits both times."""
    with _matrix_on(device) as matrix, _poisoned_memory():
        todo = [(case, dtype) for case in matrix.CASES for dtype in DTYPES]
        if limit is not None:  # spread over relations, shapes and (an odd step) dtypes
            todo = todo[:: max(1, len(todo) // limit) | 1][:limit]
        outcome = MatrixOutcome()
        for done, (case, dtype) in enumerate(todo):
            progress(done, len(todo))
            _check(matrix, case, dtype, backend, outcome)
    return outcome


def _check(matrix: ModuleType, case: Case, dtype: torch.dtype, backend: str, outcome: MatrixOutcome) -> None:
    short = str(dtype).removeprefix("torch.")
    name = f"{short}-{case}"
    outcome.cases += 1
    kept: dict[str, Any] = {}

    def keeping(key: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            result = function(*args)
            kept.setdefault(key, result)  # the truth is the first dense result, in float64
            return result

        return call

    try:
        with (
            mock.patch.object(matrix, "run", keeping("results", matrix.run)),
            mock.patch.object(matrix, "dense_results", keeping("truth", matrix.dense_results)),
        ):
            matrix.check_case(case, dtype, backend)
        again = matrix.run(case, dtype, backend)
    except AssertionError as error:
        outcome.failures.append(f"{name}: {str(error).splitlines()[0] if str(error) else 'assertion'} out of bounds")
        again = None
    except Exception as error:
        outcome.failures.append(f"{name}: {type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}")
        return
    if kept.keys() < {"results", "truth"}:
        return  # the assertion was one of the library's own
    worst = outcome.worst.setdefault(short, {})
    for key, true in kept["truth"].results.items():
        if key in kept["results"]:
            error = norm_error(kept["results"][key], true, kept["truth"].sizes.get(key))
            worst[key] = max(worst.get(key, 0.0), error)
    if again is not None and not all(_same_bits(again[key], value) for key, value in kept["results"].items()):
        outcome.not_repeatable.append(name)


def _same_bits(first: Tensor, second: Tensor) -> bool:
    return torch.equal(first.flatten().view(torch.uint8), second.flatten().view(torch.uint8))


@contextmanager
def _matrix_on(device: torch.device) -> Iterator[ModuleType]:
    """tests/test_statistics_matrix.py with its problems solved on `device`; truth and comparison stay on the CPU."""
    sys.path.insert(0, str(TESTS))
    try:
        # the tests' conftest would choose Triton's interpreter for the whole process
        with mock.patch.dict(sys.modules, {"conftest": SimpleNamespace(AVAILABLE_BACKENDS=[], SLOW_BACKENDS=())}):
            import test_statistics_matrix as matrix
    finally:
        sys.path.remove(str(TESTS))
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
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return gradient.cpu(), None


def check_graph(device: torch.device, backend: str) -> str:
    """A training step of clip_loss in a CUDA graph, replayed on other numbers, against a plain one."""
    n, d = 512, 128
    batches = [[x.to(device) for x in make_pairs(n, d, torch.bfloat16, seed)] for seed in (0, 1)]
    x, y = (value.clone().requires_grad_() for value in batches[0])
    scale = torch.tensor(14.25, device=device, requires_grad=True)

    def step() -> Tensor:
        x.grad = y.grad = scale.grad = None
        loss = clip_loss(x, y, scale, backend=backend)
        loss.backward()
        return loss.detach()

    side = torch.cuda.Stream(device)
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        step(), step()
    torch.cuda.current_stream(device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step()
    graph_grads = [x.grad, y.grad, scale.grad]
    with torch.no_grad():
        x.copy_(batches[1][0]), y.copy_(batches[1][1])
    graph.replay()
    found = [loss.clone(), *(grad.clone() for grad in graph_grads if grad is not None)]
    expected = [step(), x.grad, y.grad, scale.grad]
    same = all(a is not None and b is not None and torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    return "captured and replayed with the same bits" if same else "FAILED: the replay differs from a plain step"

"""What every test gets: each backend and dtype by name, uninitialised memory full of NaN, restored global state."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import HealthCheck, settings

from contrastive_ops.backends import BACKENDS, cpu
from contrastive_ops.testing import DTYPES

settings.register_profile(
    "deterministic",
    derandomize=True,
    database=None,
    deadline=None,
    # the fixtures below hold for all examples of a test and need no reset between them
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("deterministic")


@pytest.fixture(params=list(BACKENDS))
def backend(request: pytest.FixtureRequest) -> str:
    """Every registered backend; a new one is tested by being registered."""
    return request.param


@pytest.fixture(params=DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


@pytest.fixture(autouse=True)
def poisoned_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """torch.empty, its relatives and the native arena hand out NaN (integers: the largest value).

    What a kernel leaves unwritten or reads too early then shows in the numbers.
    """
    before = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    new_block = cpu._new_block

    def poisoned_block(size: int) -> object:
        block = new_block(size)
        torch.frombuffer(block, dtype=torch.uint8).fill_(255)
        return block

    monkeypatch.setattr(cpu, "_new_block", poisoned_block)
    yield
    torch.use_deterministic_algorithms(before[0])
    torch.utils.deterministic.fill_uninitialized_memory = before[1]


@pytest.fixture(autouse=True)
def threads_and_seed() -> Iterator[None]:
    """One thread, as most problems here take microseconds and two threads on a busy machine wait for one another.

    Tests of large problems and of thread counts set their own number.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)

"""What every test gets: each backend and dtype by name, uninitialised memory full of NaN, restored global state."""

from __future__ import annotations

import functools
import os
import zlib
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

# before triton is imported: its kernels then run in its interpreter, on CPU tensors, each product on one thread
os.environ["TRITON_INTERPRET"] = "1"
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# NumPy multiplies for the interpreter. OpenBLAS's kernels for AVX2 sum <q, k> in another order than <k, q>, so that a
# score of the gradient pass would not be the score that went into its log-sum-exp: four times the error at a scale of
# 1000. GPUs go through the depth in one order, and so do the kernels for this core, whichever the environment names.
os.environ["OPENBLAS_CORETYPE"] = "Sandybridge"

import distributed_ranks
import pytest
import torch
import torch.distributed as dist
from filelock import FileLock
from hypothesis import HealthCheck, settings

from contrastive_ops.backends import BACKENDS
from contrastive_ops.backends.cpu import native
from contrastive_ops.testing import DTYPES, emulated_cuda

HAS_TRITON = find_spec("triton") is not None  # it exists for Linux only
if HAS_TRITON:
    from contrastive_ops.testing.triton_interpreter import call_device_functions_directly

    call_device_functions_directly()
NO_EMULATOR = emulated_cuda.missing()
if NO_EMULATOR is None:
    # at import, before pytest-xdist starts its workers: they then find it built
    EMULATOR = emulated_cuda.load()
    BACKENDS["cuda"] = emulated_cuda.emulated_backend(EMULATOR, has_hopper=False)
AVAILABLE_BACKENDS = [
    name for name in BACKENDS if (name != "triton" or HAS_TRITON) and (name != "cuda" or NO_EMULATOR is None)
]
# GPU kernels on a CPU take milliseconds for a tile. Tests of many or large problems leave them out, and of every other
# test they run this many combinations; tests/test_triton.py and tests/test_cuda.py ask what is special about them.
SLOW_BACKENDS = ("triton", "cuda")
without_gpu_kernels = pytest.mark.parametrize(
    "backend", [name for name in AVAILABLE_BACKENDS if name not in SLOW_BACKENDS]
)
SLOW_COMBINATIONS = 4  # of a test of losses, of which a backend sees statistics alone
SLOW_COMBINATIONS_OF_STATISTICS = 16
OF_STATISTICS = (
    "test_backward.py",
    "test_confident_pairs.py",
    "test_extreme_scales.py",
    "test_gradcheck.py",
    "test_nan_containment.py",
    "test_opcheck.py",
    "test_row_cross_entropy.py",
    "test_volume_statistics.py",
)
# these compile for minutes: they come first, so that no worker is left alone with them at the end
COMPILING = (
    "test_cuda_kernels.py",
    "test_native.py",
    "test_versions.py",
    "test_triton_compiled.py",
    "test_cuda_compiled.py",
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A fixed choice of the slow, spread over all values of the parameters; the matrix makes its own."""
    slow: dict[tuple[str, str], list[pytest.Item]] = {}
    for item in items:
        chosen = getattr(item, "callspec", None)
        backend = chosen and chosen.params.get("backend")
        if backend in SLOW_BACKENDS and not item.get_closest_marker("own_choice"):
            slow.setdefault((item.nodeid.partition("[")[0], backend), []).append(item)
    dropped = set()
    for combinations in slow.values():
        of_statistics = combinations[0].path.name in OF_STATISTICS
        kept = spread(combinations, SLOW_COMBINATIONS_OF_STATISTICS if of_statistics else SLOW_COMBINATIONS)
        dropped.update(set(combinations) - set(kept))
    if dropped:
        config.hook.pytest_deselected(items=list(dropped))
        items[:] = [item for item in items if item not in dropped]
    items.sort(key=lambda item: item.path.name not in COMPILING)


def spread(items: list[Any], count: int) -> list[Any]:
    """So many of a test's combinations, each with as many values of parameters as may be that none before had."""
    waiting = sorted(items, key=lambda item: zlib.crc32(item.name.encode()))
    chosen: list[Any] = []
    seen: set[tuple[str, int]] = set()
    while waiting and len(chosen) < count:
        best = max(waiting, key=lambda item: len(item.callspec.indices.items() - seen))
        waiting.remove(best)
        chosen.append(best)
        seen |= best.callspec.indices.items()
    return chosen


settings.register_profile(
    "deterministic",
    derandomize=True,
    database=None,
    deadline=None,
    # the fixtures below hold for all examples of a test and need no reset between them
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("deterministic")


@pytest.fixture(params=AVAILABLE_BACKENDS)
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
    new_block = native.new_block

    def poisoned_block(size: int) -> object:
        block = new_block(size)
        torch.frombuffer(block, dtype=torch.uint8).fill_(255)
        return block

    monkeypatch.setattr(native, "new_block", poisoned_block)
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


@pytest.fixture(scope="module")
def one_rank() -> Iterator[None]:
    """The process group of a world of one, in this process."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture(scope="session")
def ranks_of(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Callable[..., list[Any]]:
    """`ranks_of(function, world)`: what `function(rank, world)` returns on each of so many ranks.

    The processes run once, also where tests are spread over workers.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent

    @functools.cache
    def ranks_of(function: Callable[[int, int], Any], world: int) -> list[Any]:
        name = f"{function.__module__}:{function.__name__}"
        directory = shared / f"{name}-{world}"
        with FileLock(f"{directory}.lock"):
            if not directory.exists():
                directory.mkdir()
                distributed_ranks.run(name, world, directory)
        return distributed_ranks.results(directory, world)

    return ranks_of

"""The fixtures do what the other tests rely on."""

from itertools import product
from types import SimpleNamespace

import pytest
import torch
from conftest import spread

from contrastive_ops import similarity_statistics
from contrastive_ops.backends import BACKENDS
from contrastive_ops.backends.cpu.memory import new_state

ALLOCATORS = {
    "empty": lambda dtype: torch.empty(5, dtype=dtype),
    "empty_like": lambda dtype: torch.empty_like(torch.zeros(5, dtype=dtype)),
    "new_empty": lambda dtype: torch.zeros(1).new_empty((5,), dtype=dtype),
    "empty_strided": lambda dtype: torch.empty_strided((5,), (2,), dtype=dtype),
}


@pytest.mark.parametrize("allocate", ALLOCATORS.values(), ids=ALLOCATORS)
def test_uninitialised_memory_is_nan(allocate, dtype):
    assert allocate(dtype).isnan().all()


def test_uninitialised_bytes_read_as_nan():
    """The state between forward and backward is bytes: as float32 they must be NaN too."""
    assert torch.empty(16, dtype=torch.uint8).view(torch.float32).isnan().all()


def test_native_arena_reads_as_nan():
    assert new_state(64).view(torch.float32).isnan().all()


def test_all_three_backends_are_there_and_work():
    x = torch.eye(3)
    assert {"cpu", "eager", "reference"} <= set(BACKENDS)
    for name in BACKENDS:
        lse = similarity_statistics(x, x.clone(), backend=name).row_lse
        torch.testing.assert_close(lse, torch.full((3,), 1.551445), rtol=1e-6, atol=0)


def test_a_few_combinations_have_every_value():
    def combination(dtype, reduction, size):
        indices = {"dtype": dtype, "reduction": reduction, "size": size}
        return SimpleNamespace(name=str(indices), callspec=SimpleNamespace(indices=indices))

    found = spread([combination(*values) for values in product(range(4), range(3), range(2))], 4)
    for name, values in (("dtype", 4), ("reduction", 3), ("size", 2)):
        assert {item.callspec.indices[name] for item in found} == set(range(values))

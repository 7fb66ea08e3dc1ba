"""What the benchmark says about what it measured."""

import pytest
import torch

from bench.cpu.solver import described, solver_info
from contrastive_ops.backends.cpu import native


def test_backend_instruction_set_and_threads():
    info = solver_info(None, 2)
    assert info == {"backend": "cpu", "isa": native.kernels().name, "threads": 2}
    assert described(info) == f"ours: backend cpu, {info['isa']}, 2 threads"


def test_no_instruction_set_of_ours_where_torch_computes():
    info = solver_info("eager", 1)
    assert info == {"backend": "eager", "isa": None, "threads": 1}
    assert described(info) == "ours: backend eager, kernels of torch, 1 thread"


@pytest.mark.filterwarnings("ignore:contrastive_ops. backend")
def test_the_native_module_that_is_missing_shows(monkeypatch):
    monkeypatch.setattr(native, "IMPORT_ERROR", ImportError("no _native"))
    assert solver_info(None, torch.get_num_threads())["backend"] != "cpu"

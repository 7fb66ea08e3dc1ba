"""Which backend is taken where none is named, and what is said of better ones that lack something."""

import warnings
from types import SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from contrastive_ops import backends
from contrastive_ops.backends import BACKENDS, select_backend
from contrastive_ops.backends.cpu import native
from contrastive_ops.backends.cuda import CudaBackend
from contrastive_ops.backends.triton import TritonBackend
from contrastive_ops.backends.triton import backend as triton_backend
from contrastive_ops.build_problem import build_problem
from contrastive_ops.ops.statistics import statistics_reductions

CUDA_BUILT, CUDA_NOT_BUILT = CudaBackend(module=SimpleNamespace(CODES=[])), CudaBackend(module=None)


def problem_on(device):
    with FakeTensorMode():
        queries, keys = (torch.empty((8, 4), device=device) for _ in range(2))
        return build_problem(queries, keys, statistics_reductions(None, None, columns=True)).with_batch()


def chosen(device):
    """(name, warnings), twice: what is warned of is warned of once."""
    found = []
    for _ in range(2):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found.append((select_backend(problem_on(device), None).name, [str(w.message) for w in caught]))
    assert found[1] == (found[0][0], [])
    return found[0]


@pytest.fixture(autouse=True)
def ask_anew(monkeypatch):
    """What was found out about this machine before, and said, is forgotten; the emulator makes way for the backend."""
    monkeypatch.setitem(BACKENDS, "cuda", CUDA_NOT_BUILT)
    caches = (triton_backend._missing, backends._warn_once)
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()


@pytest.fixture
def old_triton(monkeypatch):
    monkeypatch.setattr(pytest.importorskip("triton"), "__version__", "3.5.1")


def test_triton_is_first_on_a_gpu():
    pytest.importorskip("triton")
    assert chosen("cuda") == ("triton", [])


def test_an_old_triton_makes_way_for_cuda(old_triton, monkeypatch):
    monkeypatch.setitem(BACKENDS, "cuda", CUDA_BUILT)
    name, (warning,) = chosen("cuda")
    assert name == "cuda"
    assert "triton 3.5.1 is installed, 3.6 or later is needed: install torch 2.10 or later" in warning


def test_an_old_triton_and_no_cuda_leave_eager(old_triton):
    name, (warning,) = chosen("cuda")
    assert name == "eager"
    assert "triton 3.5.1 is installed" in warning and "the CUDA kernels are not built" in warning


def test_a_triton_that_does_not_import(monkeypatch):
    def fails(name):
        raise RuntimeError("libtriton does not fit this Python")

    monkeypatch.setattr(triton_backend, "find_spec", lambda name: object())
    monkeypatch.setattr(triton_backend, "import_module", fails)
    name, (warning,) = chosen("cuda")
    assert name == "eager" and "libtriton does not fit this Python" in warning


def test_no_compiler_for_the_launcher(monkeypatch, tmp_path):
    pytest.importorskip("triton")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    name, (warning,) = chosen("cuda")
    assert name == "eager" and "install gcc or clang, or set CC" in warning


def test_no_headers_for_the_launcher(monkeypatch, tmp_path):
    pytest.importorskip("triton")
    monkeypatch.setattr(triton_backend.sysconfig, "get_path", lambda name: str(tmp_path))
    name, (warning,) = chosen("cuda")
    assert name == "eager" and "install them (python3-dev on Debian)" in warning


def test_cpu_kernels_that_are_missing_are_missed(monkeypatch):
    assert chosen("cpu") == ("cpu", [])
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(native, "IMPORT_ERROR", ImportError("no _native"))
    name, (warning,) = chosen("cpu")
    assert name == "eager" and "the native extension is not built" in warning and "(no _native)" in warning


def test_a_device_of_another_kind_misses_nothing():
    assert chosen("xpu") == ("eager", [])


def test_a_named_backend_never_makes_way(old_triton):
    with pytest.raises(ValueError, match=r"triton 3\.5\.1 is installed, 3\.6 or later is needed"):
        select_backend(problem_on("cuda"), "triton")


@pytest.mark.parametrize(
    "arch, precision", [("gfx942:sramecc+:xnack-", "tf32"), ("gfx90a", "fp32"), ("gfx950", "fp32")]
)
def test_tf32_on_amd_only_where_triton_has_it(arch, precision, monkeypatch):
    pytest.importorskip("triton")
    monkeypatch.setattr(torch.version, "hip", "6.4")
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: type("Properties", (), {"gcnArchName": arch})
    )
    precision_before = torch.get_float32_matmul_precision()
    triton_backend._has_tf32.cache_clear()
    try:
        torch.set_float32_matmul_precision("high")
        assert TritonBackend().kernels(problem_on("cuda")).target.precision == precision
    finally:
        torch.set_float32_matmul_precision(precision_before)
        triton_backend._has_tf32.cache_clear()
        triton_backend._arch.cache_clear()

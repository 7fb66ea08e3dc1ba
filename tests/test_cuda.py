"""What is special about the CUDA backend, on the emulator: its paths and who takes which, macro-blocks, far offsets.

Its values and gradients in general are those of the shared tests, which run its portable path beside other backends;
its kernels alone, in every order of threads and under sanitizers, are those of test_cuda_kernels.py.
"""

import mmap
import runpy
from types import SimpleNamespace
from typing import NamedTuple

import conftest
import pytest
import torch
from conftest import NO_EMULATOR
from test_volume_statistics import check as check_volumes

from contrastive_ops import clip_loss, info_nce, nt_xent, similarity_statistics, volume_statistics
from contrastive_ops.backends import BACKENDS
from contrastive_ops.backends.cuda import CudaBackend, launch
from contrastive_ops.backends.cuda.codes import runs_on
from contrastive_ops.backends.gpu import backend as gpu_backend
from contrastive_ops.backends.gpu import macro
from contrastive_ops.backends.gpu.gpu_size import GpuSize
from contrastive_ops.scores import volume
from contrastive_ops.testing import DTYPES, Case, make_pairs, norm_error, tolerance_for
from contrastive_ops.testing.emulated_cuda import emulated_backend, host_counts
from contrastive_ops.testing.emulator_builds import ROOT
from contrastive_ops.testing.matrix import CASES, is_large
from contrastive_ops.testing.verdicts import check_case

HALF = (torch.bfloat16, torch.float16)

on_emulator = pytest.mark.skipif(NO_EMULATOR is not None, reason=str(NO_EMULATOR))


@pytest.fixture
def hopper(monkeypatch):
    """The backend takes its device for one of sm_90."""
    monkeypatch.setitem(BACKENDS, "cuda", emulated_backend(conftest.EMULATOR, has_hopper=True))


class Call(NamedTuple):
    name: str
    paths: tuple[str, ...]  # of the score pass one; of the gradient pass those of scores and products
    options: dict


class Recording:
    """The module, which notes the passes that it is asked for."""

    def __init__(self, module):
        self.module = module
        self.calls = []

    def __getattr__(self, name):
        found = getattr(self.module, name)
        if name not in ("reduce_fwd", "macro_pass_bwd"):
            return found

        def call(paths, matrix, **options):
            each = paths if isinstance(paths, tuple) else (paths,)
            self.calls.append(Call(name, tuple(path.name for path in each), options))
            found(paths, matrix, **options)

        return call

    def score_paths(self):
        return {x.paths[0] for x in self.calls}

    def product_paths(self):
        return {path for x in self.calls for path in x.paths[1:]}

    def of(self, name):
        return [x.options for x in self.calls if x.name == name]


@on_emulator
@pytest.mark.parametrize("case", [case for case in CASES[::4] if not is_large(case)], ids=str)
def test_hopper_path(case, hopper):
    """Every fourth case of the shared matrix, in turn in both half types; none is there to cross native tiles."""
    check_case(case, HALF[CASES.index(case) // 4 % 2], "cuda")


@on_emulator
@pytest.mark.parametrize(
    "change, expected",
    [
        (lambda x: x, "HOPPER"),
        (lambda x: x.float(), "PORTABLE"),
        (lambda x: x[:, :70], "HOPPER"),  # D may be anything, rows are 144 bytes apart
        (lambda x: x[:, 1:65], "PORTABLE"),  # starts 2 bytes beside a multiple of 16
        (lambda x: x[:, :70].contiguous(), "PORTABLE"),  # rows are 140 bytes apart
        (lambda x: x[:1].expand(90, -1), "PORTABLE"),  # one row many times
    ],
    ids=["aligned", "float32", "part of a row", "shifted", "140 bytes", "expanded"],
)
def test_who_takes_which_path(change, expected, monkeypatch):
    recording = Recording(conftest.EMULATOR)
    monkeypatch.setitem(BACKENDS, "cuda", CudaBackend(recording, "cpu", has_hopper=True))
    x = change(make_pairs(90, 72, torch.bfloat16)[0]).requires_grad_()
    y = make_pairs(50, 72, x.dtype, seed=1)[0][:, : x.shape[1]]
    results = []
    for backend in ("reference", "cuda"):
        lse = similarity_statistics(x, y, scale=10.0, backend=backend).row_lse
        results.append((lse.detach(), *torch.autograd.grad(lse.sum(), x)))
    assert recording.score_paths() == recording.product_paths() == {expected}
    assert norm_error(results[1][0], results[0][0]) < 1e-6
    assert norm_error(results[1][1], results[0][1]) < tolerance_for(x.dtype, "cuda").grad


@on_emulator
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "case",
    [
        Case("off_diagonal", (300, 520, 40), row_bias=True),
        Case("few_ids", (129, 260, 17), rows=False, col_bias=True),
        Case("self_sup_con", (390, 390, 24)),
    ],
    ids=str,
)
def test_several_macro_blocks(case, dtype, monkeypatch):
    """Blocks of two tiles of the products in float32, the last ones cut off."""
    monkeypatch.setattr(macro, "gpu_size", lambda device: GpuSize(4, 128 * 256 * 4))
    check_case(case, dtype, "cuda")


@on_emulator
@pytest.mark.parametrize(
    "dtype, has_hopper", [*((dtype, False) for dtype in DTYPES), *((dtype, True) for dtype in HALF)], ids=str
)
def test_kept_products(dtype, has_hopper, monkeypatch):
    """The same bits whether the products fit the budget or not; no product twice where they do."""
    monkeypatch.setattr(launch, "MIN_KEPT_D_HALF", launch.MIN_KEPT_D)
    monkeypatch.setattr(macro, "gpu_size", lambda device: GpuSize(4, 128 * 256 * dtype.itemsize))
    recording = Recording(conftest.EMULATOR)
    monkeypatch.setitem(BACKENDS, "cuda", CudaBackend(recording, "cpu", has_hopper))
    batch, m, n, d = 2, 150, 131, launch.MIN_KEPT_D
    budget = batch * m * n * (8 if dtype == torch.float64 else 4)
    results = []
    for backend, spare in (("reference", 0), ("cuda", -1), ("cuda", 0)):
        recording.calls.clear()
        queries, keys = (
            torch.stack([make_pairs(size, d, dtype, seed=seed)[0] for seed in range(batch)]).requires_grad_()
            for size in (m, n)
        )
        statistics = similarity_statistics(
            queries, keys, scale=20.0, columns=True, workspace_bytes=budget + spare, backend=backend
        )
        (statistics.row_lse.sum() + statistics.col_lse.square().sum()).backward()
        results.append((statistics.row_lse, statistics.col_lse, queries.grad, keys.grad))
        passes = recording.of("macro_pass_bwd")
        assert [len(x["blocks"]) > 1 for x in passes] == ([] if backend == "reference" else [True])
        assert all((x["kept"] == 0) == (spare < 0) for x in passes)
    expected, again, kept = results
    for found, right in zip(kept[2:], expected[2:], strict=True):
        assert norm_error(found, right) < tolerance_for(dtype, "cuda").grad
    assert all(map(torch.equal, kept, again))


@on_emulator
def test_the_plan_does_not_depend_on_what_is_kept(monkeypatch):
    """Where reading products back would be planned for otherwise: the same sums in the same order."""
    monkeypatch.setitem(BACKENDS, "cuda", CudaBackend(conftest.EMULATOR, "cpu", False))
    monkeypatch.setattr(macro, "gpu_size", lambda device: GpuSize(3, 262144))
    n, results = 640, []
    for budget in (0, n * n * 4):
        x, y = (side.requires_grad_() for side in make_pairs(n, launch.MIN_KEPT_D, torch.float32))
        loss = clip_loss(x, y, 20.0, workspace_bytes=budget, backend="cuda")
        results.append(torch.autograd.grad(loss, (x, y)))
    assert all(map(torch.equal, *results))


@on_emulator
@pytest.mark.parametrize("has_hopper", [False, True], ids=["portable", "hopper"])
def test_one_direction_computes_every_score_once(has_hopper, monkeypatch):
    """Panels of rows whose products are kept: the gradient follows without computing a score again."""
    monkeypatch.setattr("contrastive_ops.backends.panels.PANEL_ROWS", 64)
    recording = Recording(conftest.EMULATOR)
    monkeypatch.setitem(BACKENDS, "cuda", CudaBackend(recording, "cpu", has_hopper))
    dtype, d = (torch.bfloat16, launch.MIN_KEPT_D_HALF) if has_hopper else (torch.float32, launch.MIN_KEPT_D)
    results = []
    for backend in ("reference", "cuda"):
        queries, keys = (x.requires_grad_() for x in make_pairs(200, d, dtype))
        loss = info_nce(queries, keys, workspace_bytes=130 * 200 * 4, backend=backend)
        loss.backward()
        results.append((queries.grad, keys.grad))
    for found, expected in zip(results[1], results[0], strict=True):
        assert norm_error(found, expected) < tolerance_for(dtype, "cuda").grad
    # panels of 128 and 72 rows, by tiles of 128 rows
    assert [x["row_stripe"] * x["num_row_stripes"] for x in recording.of("reduce_fwd")] == [128, 128]
    passes = recording.of("macro_pass_bwd")
    heights = [[rows for _, _, rows, _, _ in x["blocks"]] for x in passes]
    assert heights == [[128], [72]] and all(x["kept"] != 0 for x in passes)


@on_emulator
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("count", [2, 7])
def test_volumes_in_several_macro_blocks(count, dtype, monkeypatch):
    """Blocks of one tile of the products; score passes on the portable path, whose products have no tiles
    of the Hopper path, and the gradients' products on that."""
    recording = Recording(conftest.EMULATOR)
    monkeypatch.setitem(BACKENDS, "cuda", CudaBackend(recording, "cpu", has_hopper=True))
    monkeypatch.setattr(macro, "gpu_size", lambda device: GpuSize(4, 128 * 128 * count * dtype.itemsize))
    case = Case("few_ids", (70, 150, 16), row_bias=True, col_bias=True, batch=2)
    check_volumes(case, dtype, "cuda", count)
    assert recording.score_paths() == {"PORTABLE"}
    assert recording.product_paths() == {"HOPPER" if dtype in HALF else "PORTABLE"}
    assert [len(x["blocks"]) for x in recording.of("macro_pass_bwd")] == [2]


@on_emulator
def test_weights_of_volumes_stay_in_the_range_of_float16(monkeypatch):
    """A row in the span of its column but for a rounding error: 1 / rho is what float32 tells from 0, or anything."""
    monkeypatch.setattr(volume, "LARGEST_SLOPE", 1.0)  # as if the bound of 1 / rho were passed
    largest, macro_pass = [], launch.CudaKernels.macro_pass

    def spy(kernels, view, work):
        work.weights.zero_()  # between its lines is no weight
        macro_pass(kernels, view, work)
        largest.append(work.weights.abs().max().item())

    monkeypatch.setattr(launch.CudaKernels, "macro_pass", spy)
    generator = torch.Generator().manual_seed(0)
    modalities = [torch.randn(40, 8, generator=generator).half().requires_grad_() for _ in range(2)]
    anchor = (modalities[0] + modalities[1]).detach().requires_grad_()
    found = volume_statistics(anchor, modalities, scale=-0.01, columns=True, backend="cuda")
    gradients = torch.autograd.grad(found.row_lse.sum() + found.col_lse.sum(), [anchor, *modalities])
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert largest == [torch.finfo(torch.float16).max]


@on_emulator
@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.batch > 1 and case.sizes[1] < 400][::5],
    ids=str,
)
def test_batches_beyond_one_launch(case, monkeypatch):
    """Each entry of the batch is a launch of its own."""
    monkeypatch.setattr(gpu_backend, "MAX_BATCH", 1)
    check_case(case, torch.float32, "cuda")


@on_emulator
@pytest.mark.parametrize("has_hopper", [False, True], ids=["portable", "hopper"])
def test_same_as_the_cpu_backend(has_hopper, monkeypatch):
    monkeypatch.setitem(BACKENDS, "cuda", emulated_backend(conftest.EMULATOR, has_hopper=has_hopper))
    for loss in (clip_loss, info_nce, nt_xent):
        results = []
        for backend in ("cpu", "cuda"):
            x, y = (value.requires_grad_() for value in make_pairs(200, 64, torch.bfloat16))
            value = loss(x, y, **({"logit_scale": 20.0} if loss is clip_loss else {}), backend=backend)
            results.append((value.detach(), *torch.autograd.grad(value, (x, y))))
        assert norm_error(results[1][0], results[0][0]) < 1e-6
        for found, expected in zip(results[1][1:], results[0][1:], strict=True):
            assert norm_error(found, expected) < 2 * tolerance_for(torch.bfloat16, "cuda").grad  # both are rounded


@on_emulator
@pytest.mark.parametrize("has_hopper", [False, True], ids=["portable", "hopper"])
def test_offsets_beyond_32_bits(has_hopper, monkeypatch):
    """Rows 2^30 numbers apart: the third one starts beyond 2^31."""
    monkeypatch.setitem(BACKENDS, "cuda", emulated_backend(conftest.EMULATOR, has_hopper=has_hopper))
    d, stride = 16, 2**30
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    memory = mmap.mmap(-1, 2 * (2 * stride + d), flags=flags)  # address space: only the pages of three rows exist
    queries = torch.frombuffer(memory, dtype=torch.float16).as_strided((3, d), (stride, 1))
    queries.copy_(torch.eye(3, d))
    keys = torch.ones(5, d, dtype=torch.float16)
    found = similarity_statistics(queries, keys, backend="cuda").row_lse
    expected = similarity_statistics(queries.clone(), keys, backend="reference").row_lse
    assert norm_error(found, expected) < 1e-6


@on_emulator
def test_too_many_lines_are_refused():
    """The kernels count lines in 32 bits. One key in memory stands for all."""
    queries, keys = torch.ones(2, 8), torch.ones(1, 8).expand(2**30 + 1, 8)
    with pytest.raises(
        ValueError,
        match=r"'cuda' cannot solve .*: at most 2\^30 queries, keys and dimensions, got 2, 1073741825 and 8",
    ):
        similarity_statistics(queries, keys, backend="cuda")


def test_it_explains_itself_without_a_gpu(monkeypatch):
    x = torch.eye(3)
    monkeypatch.setitem(BACKENDS, "cuda", CudaBackend(module=object()))
    with pytest.raises(ValueError, match="'cuda' cannot solve this problem: tensors must be on a CUDA device, got cpu"):
        similarity_statistics(x, x.clone(), backend="cuda")
    monkeypatch.setitem(BACKENDS, "cuda", CudaBackend(module=None))
    with pytest.raises(ValueError, match=r"the CUDA kernels (are not built|do not load).*; tensors must be on a CUDA"):
        similarity_statistics(x, x.clone(), backend="cuda")


@on_emulator
def test_one_allowance_of_shared_memory_serves_every_number_of_banks():
    """The limit of a kernel is set once, to the most: a thread's launch cannot lower that of another one."""
    before = host_counts(conftest.EMULATOR)
    for count in (3, 7, 1, 3):
        anchor, *modalities = (make_pairs(40, 16, torch.float32, seed=seed)[0] for seed in range(count + 1))
        volume_statistics(anchor, modalities, backend="cuda")
    assert host_counts(conftest.EMULATOR).allowances - before.allowances <= 1


@pytest.mark.parametrize(
    "code, runs, refused",
    [
        ("sm_80", [(8, 0), (8, 9)], [(7, 5), (9, 0), (12, 0)]),
        ("sm_86", [(8, 6), (8, 9)], [(8, 0), (9, 0)]),
        ("sm_90a", [(9, 0)], [(8, 9), (10, 0)]),
        ("compute_90", [(9, 0), (10, 0), (12, 1)], [(8, 9)]),
        ("compute_90a", [(9, 0)], [(10, 0)]),
        ("compute_100f", [(10, 0), (10, 3)], [(12, 0)]),
        ("sm_120", [(12, 0), (12, 1)], [(10, 0)]),
    ],
)
def test_which_gpus_run_what_was_built(code, runs, refused):
    assert [runs_on(code, gpu) for gpu in runs] == [True] * len(runs)
    assert [runs_on(code, gpu) for gpu in refused] == [False] * len(refused)


@pytest.mark.parametrize("gpu, reasons", [((9, 0), 0), ((10, 0), 1), ((8, 0), 1), ((7, 5), 1)], ids=str)
def test_a_gpu_that_nothing_was_built_for_is_refused(gpu, reasons, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: gpu)
    backend = CudaBackend(SimpleNamespace(CODES=["sm_90a", "compute_90a"]))
    device = torch.device("cuda", 10 * gpu[0] + gpu[1])  # what is known of a device is kept
    problem = SimpleNamespace(scale=SimpleNamespace(device=device), sizes=(1, 4, 4, 8), reductions=())
    found = backend.reasons(problem)
    assert len(found) == reasons
    if gpu == (10, 0):
        assert "built for sm_90a, compute_90a, the GPU has compute capability 10.0: reinstall" in found[0]


@pytest.mark.parametrize(
    "wish, codes",
    [
        ("9.0+PTX", ["sm_90a", "compute_90"]),
        ("9.0a+PTX", ["sm_90a", "compute_90"]),
        ("8.0;9.0", ["sm_80", "sm_90a"]),
        ("8.0 10.0+PTX", ["sm_80", "sm_100", "compute_100"]),
    ],
)
def test_what_the_list_of_architectures_builds(wish, codes, monkeypatch):
    """PTX for what comes later is none that belongs to one GPU alone."""
    monkeypatch.setattr("setuptools.setup", lambda **_: None)
    assert runpy.run_path(str(ROOT / "setup.py"))["cuda_codes"](wish) == codes

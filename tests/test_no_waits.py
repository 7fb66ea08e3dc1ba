"""On a GPU the host never waits for the device, and a step can be captured in a CUDA graph: shown without a GPU.

Every loss, as the benchmarks call it, goes forward with tensors of a GPU that is not there, and forward and backward
with those of the meta device, where autograd's engine needs no GPU and the insides of our operators can be looked into.
What the GPU backends do between their launches is looked at once more with the launches done, on the CPU.
"""

import math
from contextlib import nullcontext
from functools import partial
from unittest.mock import patch

import host_waits
import pytest
import torch
import torch.distributed as dist
from absent_gpu import fake_gpu
from conftest import AVAILABLE_BACKENDS, SLOW_BACKENDS
from host_waits import HostWaits, no_host_waits
from objectives import OBJECTIVES
from torch.testing._internal.distributed.fake_pg import FakeStore

import contrastive_ops as ops
from contrastive_ops import distributed
from contrastive_ops.backends import BACKENDS
from contrastive_ops.backends.gpu.backend import GpuBackend
from contrastive_ops.backends.gpu.kernels import MacroTiles
from contrastive_ops.check import check_scale
from contrastive_ops.losses import _checks
from contrastive_ops.losses._checks import check_indices
from contrastive_ops.testing import Case, make_inputs
from contrastive_ops.testing.loss_calls import CALLS

N, D = 48, 24
LOSSES = {name: getattr(ops, name) for name in ops.losses.__all__}


def decoupled_softmax(queries, keys):
    """As `CALLS` has it, but for the number of positives."""
    ids = torch.arange(len(queries), device=queries.device) // 4
    return ops.decoupled_softmax(queries, keys, ids, ids)


# who waits, and with which operator: as few as possible, each of them said in its docstring
WAITS = {
    "shuffled_group_whitening": (CALLS["shuffled_group_whitening"], "_linalg_eigh"),
    "decoupled_softmax": (decoupled_softmax, "_local_scalar_dense"),
}
WITHOUT_WAITS = [name for name in CALLS if name not in WAITS or CALLS[name] is not WAITS[name][0]]


class NoKernels:
    """Kernels that are launched in vain."""

    max_stripes = 4

    def __init__(self, owns_rows):
        self.owns = owns_rows

    def score_tile(self, view, self_similarity, keeps):
        return 16, 16

    def owns_rows(self, d):
        return self.owns

    def keeps_products(self, d):
        return not self.owns

    def macro_tiles(self, view, is_kept):
        return MacroTiles((16, 16), (16, 16, 16))

    def launch(self, *args):
        pass

    reduce = merge = gradient = launch

    def macro_pass(self, view, work):
        """That of Triton, the only one in Python."""
        triton_pass = pytest.importorskip("contrastive_ops.backends.triton.macro_pass")
        arguments = pytest.importorskip("contrastive_ops.backends.triton.arguments")
        with patch.object(triton_pass.Launch, "run", self.launch):
            triton_pass.run_macro_pass(view, arguments.Target("sm_80", "half", "ieee"), work)


class LaunchlessBackend(GpuBackend):
    """What the GPU backends share, in one level (`owns_rows`) or in two."""

    def __init__(self, owns_rows):
        self.owns_rows = owns_rows

    def missing(self):
        return None

    def reasons(self, problem):
        return []

    def kernels(self, problem):
        return NoKernels(self.owns_rows)


@pytest.fixture(params=["eager", "one level", "two levels"])
def any_device(request, monkeypatch):
    """Name of a backend that takes tensors of any device, as one of those for GPUs takes those of a GPU."""
    if request.param == "eager":
        return "eager"
    monkeypatch.setitem(BACKENDS, "cuda", LaunchlessBackend(request.param == "one level"))
    return "cuda"


@pytest.fixture
def one_rank():
    """A group of this process alone, whose collectives move nothing."""
    dist.init_process_group("fake", rank=0, world_size=1, store=FakeStore())
    yield
    dist.destroy_process_group()


def pairs_on(device):
    return [torch.empty((N, D), device=device, requires_grad=True) for _ in range(2)]


@pytest.mark.parametrize("name", WITHOUT_WAITS)
def test_forward_on_a_gpu(name):
    with fake_gpu(), no_host_waits(inside=False):
        loss = CALLS[name](*pairs_on("cuda"))
        assert loss.is_cuda and loss.requires_grad


@pytest.mark.parametrize("name", WITHOUT_WAITS)
def test_forward_and_backward_inside_our_operators(name, any_device):
    x, y = pairs_on("meta")
    with no_host_waits(inside=True):
        CALLS[name](x, y, backend=any_device).backward()
    assert x.grad is not None or y.grad is not None


def counts_positives(objective):
    return objective.ours is ops.decoupled_softmax and "max_positives" not in objective.settings


@pytest.mark.parametrize(
    "name", [name for name, x in OBJECTIVES.items() if x.ours in LOSSES.values() and not counts_positives(x)]
)
def test_every_switch_of_a_loss(name):
    objective = OBJECTIVES[name]
    leaves = torch.utils._pytree.tree_map_only(
        torch.Tensor, lambda x: x.detach().to("meta").requires_grad_(x.requires_grad), objective.inputs(torch.float32)
    )
    options = {"backend": "eager"} if objective.has_backend else {}
    with no_host_waits(inside=True):
        objective.ours(**leaves, **objective.settings, **options).backward()


OTHERS = {
    "a bank": lambda x, y: ops.info_nce(x, y, negatives=y.detach()),
    "a trained bank": lambda x, y: ops.info_nce(x, y, negatives=y * 0.5),
    "private negatives": lambda x, y: ops.info_nce(x, y, negatives=torch.stack((x, y), 1)),
    "chunks": lambda x, y: ops.info_nce(x, y, negatives=iter([y.detach(), x.detach()])),
    "detached volumes": lambda x, y: ops.gram_loss(x, (y,), detach_keys=True, label_smoothing=0.1),
    "volumes in half precision": lambda x, y: ops.gram_loss(x.half(), (y.half(), y.flip(1).half())),
    "volumes of pairs": lambda x, y: ops.gram_volume(x, (y,)).sum(),
    "mean": lambda x, y: ops.softmax_mean(x, y, y).sum(),
    "drawn": lambda x, y: y[ops.gram_negatives(x, (y,))[0]].sum(),
    "nearest": lambda x, y: y[ops.gram_nearest(x, (y,), 3)[1]].sum(),
    "a learned scale": lambda x, y: ops.clip_loss(x, y, x.norm()),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_calls(name):
    with no_host_waits(inside=True):
        OTHERS[name](*pairs_on("meta")).backward()


@pytest.mark.parametrize("name", WAITS)
def test_who_waits_says_so(name):
    call, operator = WAITS[name]
    with pytest.raises(HostWaits, match=operator), no_host_waits(inside=True):
        call(*pairs_on("meta"))
    assert "waits for the device once" in " ".join(LOSSES[name].__doc__.split())


@pytest.mark.parametrize("backend", [name for name in SLOW_BACKENDS if name in AVAILABLE_BACKENDS])
@pytest.mark.parametrize(
    "case",
    [
        Case("everything", (37, 29, 64), tensor_scale=False),
        Case("off_diagonal", (40, 24, 16), rows=False),
        Case("few_ids", (20, 33, 24), batch=2, row_bias=True, col_bias=True),
        Case("self_sup_con", (36, 36, 72), row_bias=True, col_bias=True),
    ],
    ids=str,
)
def test_launches(case, backend, monkeypatch):
    """With the work done: a backend reads nothing of what it passes to its kernels."""
    guard(BACKENDS[backend], monkeypatch)
    inputs = make_inputs(case, torch.float16)
    statistics = ops.similarity_statistics(
        inputs.queries,
        inputs.keys,
        scale=inputs.scale,
        row_bias=inputs.row_bias,
        col_bias=inputs.col_bias,
        candidates=inputs.candidates.relation,
        positives=None if inputs.positives is None else inputs.positives.relation,
        rows=case.rows,
        columns=case.columns,
        backend=backend,
    )
    sum(value.sum() for value in statistics if value is not None).backward()


@pytest.mark.parametrize("backend", [name for name in SLOW_BACKENDS if name in AVAILABLE_BACKENDS])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_launches_of_volumes(dtype, backend, monkeypatch):
    guard(BACKENDS[backend], monkeypatch)
    anchor, first, second = (torch.randn(9, 16, dtype=dtype, requires_grad=True) for _ in range(3))
    ops.gram_loss(anchor, (first, second), backend=backend).backward()


def guard(backend, monkeypatch):
    def guarded(method, *args):
        with no_host_waits(inside=False):
            return method(*args)

    for name in ("forward", "backward"):
        monkeypatch.setattr(backend, name, partial(guarded, getattr(backend, name)))


@pytest.mark.parametrize("device", ["cuda", "meta", "cpu"])
@pytest.mark.parametrize("negative_ignores", [False, True])
def test_indices_without_values_are_not_read(device, negative_ignores):
    with fake_gpu(), no_host_waits(inside=False):
        indices = torch.empty(4, dtype=torch.int32, device=device)
        check_indices("partner", indices, 300, negative_ignores=negative_ignores)


@pytest.mark.parametrize(
    "indices, negative_ignores, fits",
    [([0, 4], False, True), ([0, 5], False, False), ([-1, 4], False, False), ([-1, 4], True, True), ([5], True, False)],
)
def test_the_device_asserts_the_range(indices, negative_ignores, fits, monkeypatch):
    """Where the values are out of the host's reach: here they are not, and the same operator raises."""
    monkeypatch.setattr(_checks, "is_readable", lambda value: False)
    monkeypatch.setattr(_checks, "_asserts_itself", lambda value: True)
    for dtype in (torch.int64, torch.int8):
        with nullcontext() if fits else pytest.raises(RuntimeError, match=r"partner must lie in \[0, 5\)"):
            check_indices("partner", torch.tensor(indices, dtype=dtype), 5, negative_ignores=negative_ignores)


DISTRIBUTED = {
    "clip_loss": lambda x, y, **o: distributed.clip_loss(
        x, y, 2.0, label_smoothing=0.1, wire_dtype=torch.bfloat16, **o
    ),
    "gram_loss": lambda x, y, **o: distributed.gram_loss(x, (y,), label_smoothing=0.1, **o),
    "info_nce": lambda x, y, **o: distributed.info_nce(x, y, negatives=y.detach(), **o),
    "sup_con": lambda x, y, **o: distributed.sup_con(x + y, torch.arange(N, device=x.device) // 4, **o),
}


@pytest.mark.parametrize("strategy", ["gather", "ring", "shard"])
@pytest.mark.parametrize("name", DISTRIBUTED)
def test_over_ranks(name, strategy, one_rank, monkeypatch):
    # but for what the ranks agree on before, which is on the CPU here (docs/distributed.md)
    monkeypatch.setattr(host_waits, "READ_BY_THE_HOST", ())
    with no_host_waits(inside=True):
        DISTRIBUTED[name](*pairs_on("meta"), strategy=strategy).backward()


@pytest.mark.parametrize("value", [0.1, 1 / 0.07, 1e300, 1e-310, math.inf, 7])
def test_a_filled_scale_has_all_digits(value):
    assert check_scale(value, torch.device("cpu"), torch.float64).item() == value


CAUGHT = {
    "a tensor of a number": lambda gpu, cpu: torch.tensor(3.0, device=gpu.device),
    "a new tensor of a number": lambda gpu, cpu: gpu.new_tensor(3.0),
    "a copy": lambda gpu, cpu: cpu.to(gpu.device),
    "a copy into a tensor": lambda gpu, cpu: gpu.copy_(cpu),
    "an index from the host": lambda gpu, cpu: gpu[torch.tensor([1])],
    "a choice of a tensor of the host": lambda gpu, cpu: torch.where(gpu > 0, gpu, torch.tensor(0.0)),
    "a number of a tensor": lambda gpu, cpu: float(cpu[0]),
    "a branch": lambda gpu, cpu: bool(cpu[0] > 0),
    "a list": lambda gpu, cpu: cpu.tolist(),
    "a range to a tensor": lambda gpu, cpu: torch.arange(cpu[0]),
    "a mask": lambda gpu, cpu: cpu[cpu > 0],
    "positions": lambda gpu, cpu: cpu.nonzero(),
    "different values": lambda gpu, cpu: cpu.unique(),
    "repeats of each": lambda gpu, cpu: cpu.repeat_interleave(torch.tensor([1, 2, 1])),
    "a factorisation": lambda gpu, cpu: torch.linalg.eigh(torch.eye(3)),
}


@pytest.mark.parametrize("name", CAUGHT)
def test_what_waits_is_caught(name):
    with pytest.raises(HostWaits), no_host_waits(inside=True):
        CAUGHT[name](torch.empty(3, device="meta"), torch.ones(3))


def test_what_a_gpu_does_by_itself_is_let_through():
    gpu = torch.empty(3, device="meta")
    with no_host_waits(inside=True):
        torch.full((), 3.0, device=gpu.device)
        gpu.masked_fill(gpu > 0, 1.0).where(gpu > 0, 0.0)
        gpu + torch.tensor(1.0)
        gpu[torch.arange(2, device=gpu.device)]
        gpu.repeat_interleave(2)

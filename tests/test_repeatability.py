"""The same bits on every run, for every thread count and (values) for every workspace budget."""

import pytest
import torch
from conftest import without_gpu_kernels

from contrastive_ops import clip_loss, info_nce, nt_xent, sup_con
from contrastive_ops.testing import Case, differentiate, make_pairs
from contrastive_ops.testing.verdicts import solve

# several native tiles in both directions, one and two directions, ids, self-similarity, a batch
CASES = [
    Case("off_diagonal", (500, 900, 40), row_bias=True, col_bias=True),
    Case("few_ids", (700, 600, 33), columns=False),
    Case("few_ids", (600, 700, 33), rows=False),
    Case("self_sup_con", (900, 900, 40), row_bias=True, col_bias=True),
    Case("ids_per_batch", (90, 300, 17), batch=5),
]


def losses_and_gradients(backend):
    a, b = (x.requires_grad_() for x in make_pairs(700, 48))
    scale = torch.tensor(20.0).requires_grad_()
    values = {
        "clip": clip_loss(a, b, scale, label_smoothing=0.1, backend=backend),
        "info_nce": info_nce(a, b, temperature=1 / scale, backend=backend),
        "streamed": info_nce(a, b, temperature=1 / scale, negatives=b.detach().split(300), backend=backend),
        "nt_xent": nt_xent(a, b, temperature=1 / scale, backend=backend),
        "sup_con": sup_con(a, torch.arange(700) % 9, temperature=1 / scale, backend=backend),
    }
    return {**values, **differentiate(values, {"a": a, "b": b, "scale": scale})}


def assert_same_bits(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


@without_gpu_kernels
@pytest.mark.parametrize("case", CASES, ids=str)
def test_run_twice(case, dtype, backend):
    assert_same_bits(solve(case, dtype, backend), solve(case, dtype, backend))


@without_gpu_kernels
def test_losses_run_twice(backend):
    assert_same_bits(losses_and_gradients(backend), losses_and_gradients(backend))


@pytest.mark.parametrize("threads", [1, 3, 4])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_any_thread_count(case, threads, dtype):
    """Only the native backend promises this: PyTorch's own matmul splits by thread count."""
    torch.set_num_threads(2)
    expected = solve(case, dtype, "cpu")
    torch.set_num_threads(threads)
    assert_same_bits(solve(case, dtype, "cpu"), expected)


@pytest.mark.parametrize("threads", [1, 3, 4])
def test_losses_for_any_thread_count(threads):
    torch.set_num_threads(2)
    expected = losses_and_gradients("cpu")
    torch.set_num_threads(threads)
    assert_same_bits(losses_and_gradients("cpu"), expected)


@pytest.mark.parametrize("workspace_bytes", [0, 1 << 20])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_any_workspace_budget(case, workspace_bytes, dtype):
    """A tile that was kept and one that is recomputed hold the same bits."""
    assert_same_bits(solve(case, dtype, "cpu", workspace_bytes=workspace_bytes), solve(case, dtype, "cpu"))


def test_layout_does_not_change_the_bits(dtype):
    """Tiles are packed first, so strides decide nothing in the native backend."""
    results = [
        solve(Case("off_diagonal", (500, 900, 40), layout=layout), dtype, "cpu")
        for layout in ("contiguous", "sliced", "transposed")
    ]
    assert_same_bits(results[0], results[1])
    assert_same_bits(results[0], results[2])

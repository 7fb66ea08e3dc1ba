"""The sum of one-directional cross-entropies, whose gradient is formed panel by panel in the forward pass."""

import dense_losses
import pytest
import torch
from comparison import check_loss, gradients
from conftest import without_gpu_kernels
from test_opcheck import Recorder
from torch.library import opcheck

from contrastive_ops import LogSumExp, diagonal, different, off_diagonal, same
from contrastive_ops.backends.cpu.panels import panels_of
from contrastive_ops.backends.cpu.tiling import LARGEST_BLOCK
from contrastive_ops.build_problem import build_problem
from contrastive_ops.ops import summed_row_cross_entropy
from contrastive_ops.problem import statistics_dtype
from contrastive_ops.testing import make_pairs

M, N, D = 900, 1000, 24
ONE_PANEL, THREE_PANELS = 1 << 26, 400 * N * 8  # 384 rows of N float32 or float64 scores fit the smaller budget
PERMUTATION = torch.randperm(N, generator=torch.Generator().manual_seed(3))


def relations(name, m, n):
    """(candidates, positives, position of each row's positive, -1 for none)."""
    if name == "ids":
        return different(torch.arange(m), PERMUTATION[:n]), same(torch.arange(m), PERMUTATION[:n]), _inverse(m, n)
    offset = {"diagonal": 0, "right": 7, "left": -5}[name]
    position = torch.arange(m) + offset
    return off_diagonal(offset), diagonal(offset), position.masked_fill((position < 0) | (position >= n), -1)


def _inverse(m, n):
    equal = torch.arange(m)[:, None] == PERMUTATION[None, :n]
    return torch.where(equal.any(1), equal.int().argmax(1), -1)


def dense(x, position, exact):
    scores = x["scale"] * (x["queries"] @ x["keys"].mT) + x["row_bias"][..., :, None] + x["col_bias"][..., None, :]
    belongs = position[:, None] == torch.arange(scores.shape[-1])
    positive = scores.masked_fill(~belongs, 0.0).sum(-1)
    batches = zip(scores.reshape(-1, *scores.shape[-2:]), positive.reshape(-1, len(position)), strict=True)
    return sum(dense_losses.cross_entropy(s, p, ~belongs, exact).sum() for s, p in batches)


def leaves_for(m, n, dtype, batch=(), row_bias_grad=True):
    """A row's bias moves positive and negatives alike: its gradient is 0 but for rows without a positive."""
    generator = torch.Generator().manual_seed(1)
    high = statistics_dtype(dtype)
    queries, keys = make_pairs(max(m, n), D, dtype)
    leaves = {
        "queries": queries[:m].expand(*batch, m, D).clone(),
        "keys": keys[:n].expand(*batch, n, D).clone(),
        "scale": torch.tensor(12.0, dtype=high),
        "row_bias": torch.randn(*batch, m, generator=generator).to(high),
        "col_bias": torch.randn(*batch, n, generator=generator).to(high),
    }
    return {name: leaf.requires_grad_(row_bias_grad or name != "row_bias") for name, leaf in leaves.items()}


def ours(x, candidates, positives, backend, workspace_bytes=ONE_PANEL):
    return summed_row_cross_entropy(
        **x, candidates=candidates, positives=positives, workspace_bytes=workspace_bytes, backend=backend
    )


@without_gpu_kernels
@pytest.mark.parametrize("workspace_bytes", [ONE_PANEL, THREE_PANELS, 0])
@pytest.mark.parametrize("name", ["diagonal", "right", "left", "ids"])
def test_values_and_gradients(name, workspace_bytes, dtype, backend):
    candidates, positives, position = relations(name, M, N)
    check_loss(
        lambda x: ours(x, candidates, positives, backend, workspace_bytes),
        lambda x: dense(x, position, True),
        lambda x: dense(x, position, False),
        leaves_for(M, N, dtype, row_bias_grad=bool((position == -1).any())),
        dtype,
        backend,
    )


@without_gpu_kernels
@pytest.mark.parametrize("name", ["right", "ids"])
def test_batch(name, backend):
    """Each entry of the batch is its own problem, also across panels."""
    candidates, positives, position = relations(name, 500, 300)
    leaves = leaves_for(500, 300, torch.float32, batch=(2,))
    check_loss(
        lambda x: ours(x, candidates, positives, backend, 2 * 400 * 300 * 4),
        lambda x: dense(x, position, True),
        lambda x: dense(x, position, False),
        leaves,
        torch.float32,
        backend,
    )


@without_gpu_kernels
def test_one_tensor_in_both_roles(backend):
    """No self-similarity is used here, and the gradient is the sum of both roles."""
    z = make_pairs(40, D, torch.float64)[0].requires_grad_()
    partner = torch.arange(40) // 2
    total = summed_row_cross_entropy(
        z, z, scale=5.0, candidates=different(partner), positives=same(partner) & off_diagonal(), backend=backend
    )
    scores = 5.0 * z @ z.mT
    positive = scores.gather(1, (torch.arange(40) ^ 1)[:, None]).squeeze(1)
    expected = dense_losses.cross_entropy(scores, positive, partner[:, None] != partner[None, :], True).sum()
    torch.testing.assert_close(total, expected, rtol=1e-12, atol=0)
    (grad,), (expected_grad,) = torch.autograd.grad(total, (z,)), torch.autograd.grad(expected, (z,))
    torch.testing.assert_close(grad, expected_grad, rtol=1e-10, atol=1e-13)


@without_gpu_kernels
def test_a_loss_scale_reaches_float16_gradients(backend):
    """GradScaler multiplies by 65536, beyond float16 itself: gradients must meet it before they are rounded."""
    candidates, positives, _ = relations("diagonal", 300, 300)
    leaves = leaves_for(300, 300, torch.float16)
    small, scaled = (
        gradients(lambda x: ours(x, candidates, positives, backend), leaves, torch.tensor(factor))[1]
        for factor in (2.0**-22, 2.0**16 * 2.0**-22)
    )
    large = gradients(lambda x: 65536.0 * (2.0**-22 * ours(x, candidates, positives, backend)), leaves)[1]
    for name in ("queries", "keys"):
        assert large[name].isfinite().all()
        assert torch.equal(large[name], scaled[name])
        assert (small[name] == 0).sum() > (large[name] == 0).sum()  # what rounding too early would lose


@without_gpu_kernels
def test_only_the_gradients_asked_for(backend):
    candidates, positives, _ = relations("diagonal", M, N)
    everything = gradients(lambda x: ours(x, candidates, positives, backend), leaves_for(M, N, torch.float32))[1]
    for name in everything:
        leaves = {
            key: leaf.detach().requires_grad_(key == name) for key, leaf in leaves_for(M, N, torch.float32).items()
        }
        found = gradients(lambda x: ours(x, candidates, positives, backend), leaves)[1]
        assert found.keys() == {name}
        largest = everything[name].abs().max().item()
        torch.testing.assert_close(found[name], everything[name], rtol=0, atol=1e-5 * largest)


@without_gpu_kernels
@pytest.mark.parametrize("workspace_bytes", [ONE_PANEL, THREE_PANELS])
def test_operator(workspace_bytes, dtype, backend):
    candidates, positives, _ = relations("ids", M, N)
    with Recorder() as recorder:
        ours(leaves_for(M, N, dtype), candidates, positives, backend, workspace_bytes)
    ((function, args),) = recorder.calls
    assert function.name() == "contrastive_ops::row_cross_entropy"
    detached = torch.utils._pytree.tree_map_only(torch.Tensor, torch.Tensor.detach, args)
    opcheck(function, detached, test_utils=("test_schema", "test_faketensor"))


def budget_of(rows, n, dtype):
    """What so many rows of scores take, in whole tiles of columns."""
    return rows * -(-n // LARGEST_BLOCK) * LARGEST_BLOCK * statistics_dtype(dtype).itemsize


@pytest.mark.parametrize(
    ("m", "n", "batch", "rows"),
    [
        (70, 900, (), 48),  # stripes that pack their own keys, the second one shorter
        (1100, 300, (), 600),  # two panels that share them
        (700, 500, (2,), 350),  # two panels of each entry
        (60, 500, (5,), 130),  # two entries of the batch in a panel
        (900, 50, (), 60),  # few columns: one panel of the transposed problem
        (277, 600, (), 139),  # alone the second panel would be of few rows, the first would not
        (8, 64, (), 8),  # few rows in one stripe
    ],
)
def test_native_panels(m, n, batch, rows, dtype):
    """Keys are packed once, their gradients add up in place, and each of them alone is the same."""
    candidates, positives, position = relations("right", m, n)
    leaves = leaves_for(m, n, dtype, batch, row_bias_grad=m > n)
    budget = budget_of(rows, n, dtype)

    def loss(x):
        return ours(x, candidates, positives, "cpu", budget)

    check_loss(loss, lambda x: dense(x, position, True), lambda x: dense(x, position, False), leaves, dtype, "cpu")
    _, everything = gradients(loss, leaves)
    for names in (("keys", "scale"), ("queries", "col_bias"), ("scale",)):
        some = {name: leaf.detach().requires_grad_(name in names) for name, leaf in leaves.items()}
        for name, grad in gradients(loss, some)[1].items():
            largest, rounding = everything[name].abs().max().item(), torch.finfo(grad.dtype).eps
            torch.testing.assert_close(grad, everything[name], rtol=0, atol=max(1e-5, rounding) * largest)


def test_panels_are_those():
    """How many calls of the score pass the problems above take."""
    counts = []
    for m, n, entries, rows in (
        (70, 900, 1, 48),
        (1100, 300, 1, 600),
        (700, 500, 2, 350),
        (60, 500, 5, 130),
        (277, 600, 1, 139),
    ):
        problem = build_problem(
            torch.zeros(entries, m, D),
            torch.zeros(entries, n, D),
            {"all": LogSumExp()},
            workspace_bytes=budget_of(rows, n, torch.float32),
        )
        counts.append(len(list(panels_of(problem.with_batch()))))
    assert counts == [2, 2, 4, 3, 2]


def test_gradients_that_are_handed_on_as_they_are():
    """Where the upstream gradient is 1, backward returns what forward has made. A kept graph must not notice what
    becomes of it."""
    candidates, positives, _ = relations("diagonal", 40, 50)
    leaves = leaves_for(40, 50, torch.float32)
    expected = gradients(lambda x: ours(x, candidates, positives, "cpu"), leaves)[1]
    # of a view autograd takes the gradient as it comes
    views = {name: leaf.view_as(leaf) for name, leaf in leaves.items()}
    for given in (leaves, views):
        total = ours(given, candidates, positives, "cpu")
        for _ in range(3):
            total.backward(retain_graph=True)
            for name, leaf in leaves.items():
                assert torch.equal(leaf.grad, expected[name])
                leaf.grad.data.zero_()
        for leaf in leaves.values():
            leaf.grad = None
    names = list(leaves)
    for _ in range(2):
        found = torch.autograd.grad(total, [leaves[name] for name in names], retain_graph=True)
        assert all(torch.equal(grad, expected[name]) for name, grad in zip(names, found, strict=True))
        for grad in found:
            grad.data.zero_()


def test_gradients_of_func_are_the_callers():
    """A function of `torch.func.vjp` may be called again."""
    candidates, positives, _ = relations("diagonal", 40, 50)
    leaves = leaves_for(40, 50, torch.float32)
    _, pull = torch.func.vjp(
        lambda queries: ours(leaves | {"queries": queries}, candidates, positives, "cpu"), leaves["queries"]
    )
    (first,) = pull(torch.ones(()))
    kept = first.clone()
    first.zero_()
    assert torch.equal(pull(torch.ones(()))[0], kept)


@pytest.mark.parametrize("threads", [1, 3])
def test_same_bits_for_any_thread_count(threads, dtype):
    candidates, positives, _ = relations("ids", M, N)

    def run():
        return gradients(lambda x: ours(x, candidates, positives, "cpu", THREE_PANELS), leaves_for(M, N, dtype))

    torch.set_num_threads(2)
    total, expected = run()
    torch.set_num_threads(threads)
    again, found = run()
    assert torch.equal(total, again)
    assert all(torch.equal(found[name], expected[name]) for name in expected)

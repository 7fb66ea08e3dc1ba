"""Lists of reductions on the CUDA backend, through the emulator, against what they are: formulas over dense scores in
float64. Problems are as small as cross its tiles of 128 x 128 (64 x 64 in float64, 32 x 64 of volumes)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import conftest
import pytest
import torch
from conftest import NO_EMULATOR
from dense_volumes import dense_volumes
from torch import Tensor

from contrastive_ops import diagonal, different, off_diagonal, same
from contrastive_ops.backends import BACKENDS
from contrastive_ops.backends.cuda import launch
from contrastive_ops.backends.gpu import macro
from contrastive_ops.backends.gpu.gpu_size import GpuSize
from contrastive_ops.ops.reduce import reduce, reduced
from contrastive_ops.ops.volume_statistics import volume_problem
from contrastive_ops.reductions import CountAbove, Largest, LogSumExp, Reduced, Reduction, ScoreSum
from contrastive_ops.testing import DTYPES, norm_error
from contrastive_ops.testing.emulated_cuda import emulated_backend, host_counts

pytestmark = pytest.mark.skipif(NO_EMULATOR is not None, reason=str(NO_EMULATOR))

HALF = (torch.bfloat16, torch.float16)
VALUES = {torch.float64: 1e-12}  # relative error of results, 2e-6 in float32
GRADIENTS = {torch.float64: 1e-12, torch.float32: 5e-6, torch.bfloat16: 6e-3, torch.float16: 1e-3}
SCALE = 4.0


class Setting(NamedTuple):
    """A shape, and the reductions of its lines."""

    shape: tuple[int, ...]  # B, M, N, D
    reductions: Callable[..., list[Reduction]]  # of the ids and compared values below
    biases: bool = False
    kept: bool = False


class Lines(NamedTuple):
    """What relations and comparisons take, `[B, M]` and `[B, N]`."""

    row_ids: Tensor
    col_ids: Tensor
    row_values: Tensor
    col_values: Tensor


SETTINGS = {
    "two log-sum-exps": Setting(
        (1, 130, 140, 16),
        lambda of: [
            LogSumExp(off_diagonal(), columns=True),
            LogSumExp(different(of.row_ids, of.col_ids), rows=False, columns=True, factor=0.5),
        ],
    ),
    "three, one of few pairs": Setting(
        (2, 66, 150, 24),
        lambda of: [
            LogSumExp(factor=torch.tensor(2.0)),
            LogSumExp(same(of.row_ids, of.col_ids), columns=True, factor=-0.25),
            LogSumExp(off_diagonal(3), rows=False, columns=True),
        ],
        biases=True,
    ),
    "sums in both places": Setting(
        (1, 70, 131, 40),
        lambda of: [
            ScoreSum(diagonal(5), columns=True, factor=3.0),
            LogSumExp(off_diagonal(), rows=False, columns=True),
            ScoreSum(same(of.row_ids, of.col_ids)),
            LogSumExp(),
        ],
        biases=True,
    ),
    "sums alone": Setting((1, 129, 20, 8), lambda of: [ScoreSum(off_diagonal(), columns=True), ScoreSum(factor=0.1)]),
    "one with a factor": Setting((1, 20, 129, 8), lambda of: [LogSumExp(columns=True, factor=0.3)]),
    "the sum first": Setting(
        (1, 20, 129, 8), lambda of: [ScoreSum(diagonal(), columns=True), LogSumExp(off_diagonal())]
    ),
    "every kind": Setting(
        (2, 67, 140, 16),
        lambda of: [
            CountAbove(
                different(of.row_ids, of.col_ids),
                columns=True,
                row_values=of.row_values,
                col_values=of.col_values,
            ),
            LogSumExp(off_diagonal(), columns=True),
            Largest(same(of.row_ids, of.col_ids), columns=True, factor=-2.0),
            ScoreSum(diagonal()),
        ],
    ),
    "without a slope": Setting(
        (1, 130, 30, 16),
        lambda of: [Largest(factor=0.5), CountAbove(off_diagonal(), row_values=of.row_values), Largest(diagonal(2))],
    ),
    "four clauses": Setting(
        (1, 80, 130, 16),
        lambda of: [
            LogSumExp(
                off_diagonal() & off_diagonal(7) & different(of.row_ids, of.col_ids) & off_diagonal(-9), columns=True
            ),
            ScoreSum(same(of.row_ids, of.col_ids) & off_diagonal(1) & off_diagonal(-1) & off_diagonal(), columns=True),
        ],
    ),
    "kept": Setting(
        (1, 70, 131, launch.MIN_KEPT_D),
        lambda of: [LogSumExp(off_diagonal(), columns=True), LogSumExp(factor=2.0), ScoreSum(diagonal())],
        biases=True,
        kept=True,
    ),
}


def masked(relation: Any, scores: Tensor, other: float) -> Tensor:
    mask = relation.mask(*scores.shape[-2:], scores.device)
    return scores if mask is None else scores.masked_fill(~mask, other)


def dense(reduction: Reduction, scores: Tensor, dim: int) -> Tensor:
    t = scores if reduction.factor is None else scores * float(reduction.factor)
    if isinstance(reduction, LogSumExp):
        return masked(reduction.relation, t, -torch.inf).logsumexp(dim)
    if isinstance(reduction, ScoreSum):
        return masked(reduction.relation, t, 0.0).sum(dim)
    if isinstance(reduction, Largest):
        return masked(reduction.relation, t, -torch.inf).amax(dim)
    values = reduction.row_values if dim == -1 else reduction.col_values
    return (masked(reduction.relation, t, -torch.inf) > values.double().unsqueeze(dim)).sum(dim)


def compare(
    reductions: Sequence[Reduction], found: Sequence[Reduced], scores: Tensor, leaves: Sequence[Tensor], truth: Any
) -> None:
    """Results and gradients, of a random combination of all results, against those of dense scores in float64. `leaves`
    and `truth`: what the results and what `scores` were computed from."""
    dtype = leaves[0].dtype
    generator = torch.Generator().manual_seed(1)
    loss, true_loss = [], []
    for reduction, each in zip(reductions, found, strict=True):
        for value, dim, wanted in ((each.rows, -1, reduction.rows), (each.columns, -2, reduction.columns)):
            assert (value is not None) == wanted
            if value is None:
                continue
            expected = dense(reduction, scores, dim).reshape(value.shape)
            if isinstance(reduction, CountAbove):
                assert value.dtype == torch.int64 and torch.equal(value, expected)
                continue
            assert norm_error(value, expected) < VALUES.get(dtype, 2e-6), reduction
            if reduction.has_slope:
                weight = torch.rand(value.shape, generator=generator, dtype=torch.float64)
                loss.append((weight.to(value.dtype) * value).sum())
                true_loss.append((weight * expected).sum())
    if not loss:
        return
    gradients = torch.autograd.grad(sum(loss), leaves)
    for gradient, expected in zip(gradients, torch.autograd.grad(sum(true_loss), truth), strict=True):
        # of embeddings rounded, of lines and numbers not
        tolerance = GRADIENTS[gradient.dtype if gradient.dtype in HALF else dtype]
        tolerance = max(tolerance, 1e-5 if dtype in HALF and gradient.dtype not in HALF else 0)
        assert norm_error(gradient, expected) < tolerance


def make_lines(shape: tuple[int, ...], dtype: torch.dtype) -> Lines:
    batch, m, n, _ = shape
    generator = torch.Generator().manual_seed(2)
    ids = [torch.randint(4, (batch, size), generator=generator) for size in (m, n)]
    return Lines(*ids, *(torch.randn((batch, size), generator=generator, dtype=dtype) for size in (m, n)))


def check(setting: Setting, dtype: torch.dtype) -> None:
    batch, m, n, d = setting.shape
    generator = torch.Generator().manual_seed(0)
    statistics = torch.float64 if dtype == torch.float64 else torch.float32

    def draw(*size: int, number: torch.dtype) -> Tensor:
        return torch.randn(size, generator=generator, dtype=torch.float64).to(number)

    leaves = [draw(batch, size, d, number=dtype) / d**0.5 for size in (m, n)]
    leaves.append(torch.tensor(SCALE, dtype=statistics))
    leaves += [draw(batch, size, number=statistics) for size in ((m, n) if setting.biases else ())]
    truth = [leaf.double().requires_grad_() for leaf in leaves]
    for leaf in leaves:
        leaf.requires_grad_()
    reductions = setting.reductions(make_lines(setting.shape, statistics))
    queries, keys, scale, *biases = leaves
    found = reduce(
        queries,
        keys,
        {str(i): reduction for i, reduction in enumerate(reductions)},
        scale=scale,
        **dict(zip(("row_bias", "col_bias"), biases, strict=False)),
        workspace_bytes=batch * m * n * 8 if setting.kept else 0,
        backend="cuda",
    )
    scores = truth[2] * (truth[0] @ truth[1].mT)
    if setting.biases:
        scores = scores + truth[3][:, :, None] + truth[4][:, None, :]
    compare(reductions, list(found.values()), scores, leaves, truth)


@pytest.mark.parametrize("name, dtype", [(name, DTYPES[i % 4]) for i, name in enumerate(SETTINGS)])
def test_reductions_of_dot_products(name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """In several macro-blocks, of two tiles of the products each."""
    monkeypatch.setattr(launch, "MIN_KEPT_D_HALF", launch.MIN_KEPT_D)
    monkeypatch.setattr(macro, "gpu_size", lambda device: GpuSize(4, 64 * 128 * dtype.itemsize))
    check(SETTINGS[name], dtype)


@pytest.mark.parametrize("name", ["three, one of few pairs", "every kind", "kept"])
def test_on_the_hopper_path(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "MIN_KEPT_D_HALF", launch.MIN_KEPT_D)
    monkeypatch.setitem(BACKENDS, "cuda", emulated_backend(conftest.EMULATOR, has_hopper=True))
    check(SETTINGS[name], torch.bfloat16)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["two log-sum-exps", "every kind", "sums in both places"])
def test_reductions_of_volumes(name: str, dtype: torch.dtype) -> None:
    shape = (1, 40, 70, 12)
    of = make_lines(shape, torch.float64 if dtype == torch.float64 else torch.float32)
    reductions = SETTINGS[name].reductions(Lines(*(line.squeeze(0) for line in of)))
    generator = torch.Generator().manual_seed(0)
    leaves = [torch.randn(size, 12, generator=generator).to(dtype).requires_grad_() for size in (40, 70, 70)]
    problem, _ = volume_problem(leaves[0], leaves[1:], scale=-0.5, rows=True, columns=True)
    factors = [None if r.factor is None else torch.tensor(r.factor).to(problem.scale) for r in reductions]
    checked = [
        r.made_of(r.relation, factor, r.row_values, r.col_values) for r, factor in zip(reductions, factors, strict=True)
    ]
    found = reduced(problem._replace(reductions=tuple(checked)), "cuda")
    truth = [leaf.detach().double().requires_grad_() for leaf in leaves]
    compare(reductions, found, -0.5 * dense_volumes(truth[0], truth[1:]), leaves, truth)


@pytest.mark.parametrize("biases", [False, True])
def test_self_similarity(biases: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the macro-blocks: a bias counts in both roles of its item."""
    monkeypatch.setattr(macro, "gpu_size", lambda device: GpuSize(4, 64 * 64 * 8))
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, (150,), generator=generator)
    leaves = [torch.randn(150, 8, generator=generator, dtype=torch.float64).requires_grad_()]
    if biases:
        leaves.append(torch.randn(150, generator=generator, dtype=torch.float64).requires_grad_())
    reductions = [
        LogSumExp(off_diagonal(), columns=True),
        LogSumExp(different(ids), factor=0.5),
        ScoreSum(same(ids) & off_diagonal(), columns=True),
    ]
    named = {str(i): reduction for i, reduction in enumerate(reductions)}
    options = dict(zip(("row_bias", "col_bias"), 2 * leaves[1:], strict=False))
    found = reduce(leaves[0], leaves[0], named, backend="cuda", **options)
    truth = [leaf.detach().clone().requires_grad_() for leaf in leaves]
    scores = truth[0] @ truth[0].mT
    if biases:
        scores = scores + truth[1][:, None] + truth[1]
    compare(reductions, list(found.values()), scores, leaves, truth)


@pytest.mark.parametrize("has_hopper", [False, True], ids=["portable", "hopper"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_ties_are_not_above(dtype: torch.dtype, has_hopper: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest score of a line, found in one pass, has the bits that a later pass compares it with."""
    monkeypatch.setitem(BACKENDS, "cuda", emulated_backend(conftest.EMULATOR, has_hopper=has_hopper))
    generator = torch.Generator().manual_seed(0)
    queries, keys = (torch.randn(size, 72, generator=generator).to(dtype) for size in (33, 140))
    bias = torch.randn(140, generator=generator, dtype=torch.float64)
    options = {"scale": 0.37, "col_bias": bias.to(torch.float64 if dtype == torch.float64 else torch.float32)}
    largest = reduce(
        queries, keys, {"all": Largest(columns=True, factor=0.7), "lse": LogSumExp()}, backend="cuda", **options
    )["all"]
    above = CountAbove(columns=True, factor=0.7, row_values=largest.rows, col_values=largest.columns)
    below = CountAbove(
        columns=True,
        factor=0.7,
        row_values=largest.rows.nextafter(-bias.new_tensor(torch.inf).to(largest.rows)),
        col_values=largest.columns.nextafter(-bias.new_tensor(torch.inf).to(largest.rows)),
    )
    found = reduce(queries, keys, {"above": above, "below": below}, backend="cuda", **options)
    for side in (0, 1):
        assert (found["above"][side] == 0).all() and (found["below"][side] == 1).all()


def test_lines_without_pairs_and_what_is_not_a_number() -> None:
    """NaN is the largest, and above everything; everything is above a NaN. It stays in its line."""
    queries, keys = torch.eye(3, 8), torch.eye(4, 8)
    queries[1, 0] = torch.nan
    ids = torch.tensor([0, 1, 2]), torch.tensor([0, 1, 1, 1])  # the last row has no pair
    related, values = same(*ids), torch.tensor([0.5, 0.5, 0.5])
    found = reduce(
        queries,
        keys,
        {
            "sum": ScoreSum(related),
            "largest": Largest(related),
            "above": CountAbove(related, row_values=values),
            "above NaN": CountAbove(row_values=values * torch.nan, rows=True),
        },
        backend="cuda",
    )
    rows = {name: each.rows.tolist() for name, each in found.items()}
    assert rows["above"] == [1, 3, 0] and rows["above NaN"] == [4, 4, 4]
    assert rows["largest"][::2] == [1.0, -torch.inf] and rows["sum"][::2] == [1.0, 0.0]
    assert found["largest"].rows[1].isnan() and found["sum"].rows[1].isnan()
    lse = reduce(queries, keys, {"lse": LogSumExp(related, factor=2.0)}, backend="cuda")["lse"].rows
    assert lse[2] == -torch.inf and lse[1].isnan() and lse[0] == 2.0


def test_one_pass_and_one_merge_for_each_direction() -> None:
    """A list takes as many launches as one reduction of both directions."""
    counts = []
    queries, keys = torch.eye(20, 8), torch.eye(30, 8)
    for reductions in ([LogSumExp(columns=True)], [LogSumExp(columns=True), ScoreSum(factor=2.0), Largest()] * 1):
        before = host_counts(conftest.EMULATOR)
        reduce(queries, keys, dict(enumerate(reductions)), backend="cuda")
        counts.append((host_counts(conftest.EMULATOR) - before).launches)
    assert counts == [3, 3]

"""Several reductions of one pass, each with its own relation, directions and factor, against the dense formula."""

import math

import pytest
import torch
from torch import Tensor

from contrastive_ops import (
    CountAbove,
    Largest,
    LogSumExp,
    Reduction,
    ScoreSum,
    diagonal,
    different,
    off_diagonal,
    reduce,
    same,
)
from contrastive_ops.problem import statistics_dtype
from contrastive_ops.testing import norm_error, tolerance_for

M, N, D, BATCH = 37, 70, 20, 2


def ids(length, values, seed):
    return torch.randint(values, (length,), generator=torch.Generator().manual_seed(seed))


def relations(m, n):
    """Each with its mask `[m, n]`: the library's object and what it must stand for."""
    i, j = torch.arange(m)[:, None], torch.arange(n)[None, :]
    a, b, c, d = ids(m, 3, 0), ids(n, 3, 1), ids(m, 4, 2), ids(n, 4, 3)
    return {
        "all": (None, torch.ones(m, n, dtype=torch.bool)),
        "others": (off_diagonal(), i != j),
        "pairs": (diagonal(), i == j),
        "same": (same(a, b), a[:, None] == b),
        "four": (
            same(a, b) & different(c, d) & off_diagonal() & off_diagonal(3),
            (a[:, None] == b) & (c[:, None] != d) & (i != j) & (j != i + 3),
        ),
        "none": (diagonal() & off_diagonal(), i != i),
    }


def made(kind, name, **options):
    """A reduction and what it is of the dense scores, for any sizes."""

    def make(m, n):
        relation, mask = relations(m, n)[name]
        return kind(**({} if relation is None else {"relation": relation}), **options), mask

    return make


PASSES = {
    "two temperatures": {
        "soft": made(LogSumExp, "others", columns=True),
        "hard": made(LogSumExp, "same", factor=1.75),
    },
    "four": {
        "first": made(LogSumExp, "four", rows=False, columns=True),
        "sum": made(ScoreSum, "same", columns=True, factor=-0.5),
        "second": made(LogSumExp, "all", factor=0.5, columns=True),
        "pairs": made(ScoreSum, "pairs"),
    },
    "sum first": {"pairs": made(ScoreSum, "pairs", columns=True), "others": made(LogSumExp, "others")},
    "sums alone": {"pairs": made(ScoreSum, "pairs"), "same": made(ScoreSum, "same", rows=False, columns=True)},
    "largest beside": {
        "largest": made(Largest, "same", columns=True),
        "others": made(LogSumExp, "others", columns=True),
        "none": made(LogSumExp, "none"),
    },
    "three": {
        "a": made(LogSumExp, "others"),
        "b": made(LogSumExp, "others", factor=2.0),
        "c": made(LogSumExp, "four", columns=True),
    },
}


def dense(reduction, mask, scores):
    """{direction: numbers}, differentiable."""
    scores = scores if reduction.factor is None else reduction.factor * scores
    found = {}
    for direction, dim in (("rows", -1), ("columns", -2)):
        if not getattr(reduction, direction):
            continue
        empty = ~mask.any(dim)
        if isinstance(reduction, ScoreSum):
            found[direction] = scores.masked_fill(~mask, 0.0).sum(dim)
            continue
        masked = scores.masked_fill(~mask, -torch.inf)
        if isinstance(reduction, Largest):
            found[direction] = masked.amax(dim).detach()
        else:  # a line without pairs is taken from zeros, so that its gradient is 0
            lse = masked.masked_fill(empty.unsqueeze(dim), 0.0).logsumexp(dim)
            found[direction] = lse.masked_fill(empty, -torch.inf)
    return found


def inputs(dtype, batch, seed=0, m=M, n=N):
    generator = torch.Generator().manual_seed(seed)
    shape = (BATCH,) if batch else ()

    def leaf(*size, to=dtype):
        return torch.randn(*shape, *size, generator=generator).to(to).requires_grad_()

    wide = statistics_dtype(dtype)
    scale = torch.tensor(0.75, dtype=wide, requires_grad=True)
    return {
        "queries": leaf(m, D),
        "keys": leaf(n, D),
        "scale": scale,
        "row_bias": leaf(m, to=wide),
        "col_bias": leaf(n, to=wide),
    }


def cast(leaves, dtype):
    return {name: x.detach().to(dtype).requires_grad_() for name, x in leaves.items()}


def dense_scores(x):
    return x["scale"] * x["queries"] @ x["keys"].mT + x["row_bias"][..., :, None] + x["col_bias"][..., None, :]


def flat(found):
    return {f"{name} {direction}": x for name, each in found.items() for direction, x in each.items()}


def with_gradients(found, leaves):
    """Numbers and the gradients of a weighted sum of those that have one."""
    generator = torch.Generator().manual_seed(9)
    total = 0.0
    for x in found.values():
        weights = torch.rand(x.shape, generator=generator, dtype=torch.float64).to(x.dtype)
        if x.requires_grad:
            total = total + (weights * x.masked_fill(x.isinf(), 0.0)).sum()
    gradients = torch.autograd.grad(total, list(leaves.values()), allow_unused=True, materialize_grads=True)
    return {**{name: x.detach() for name, x in found.items()}, **dict(zip(leaves, gradients, strict=True))}


def check(ours, truth, plain, dtype, backend):
    assert ours.keys() == truth.keys()
    value, grad = tolerance_for(dtype, backend)
    for name, true in truth.items():
        tolerance = grad if name in ("queries", "keys") else 4 * value
        size = torch.tensor(float(true.numel())).sqrt()  # sums of terms of order 1 that cancel
        error, allowed = norm_error(ours[name], true, size), norm_error(plain[name], true, size)
        assert error <= 2 * allowed + tolerance, f"{name}: {error} against {allowed}"


def run(passed, leaves, backend, **options):
    found = reduce(**leaves, reductions=passed, backend=backend, **options)
    return flat({name: {k: v for k, v in x._asdict().items() if v is not None} for name, x in found.items()})


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "not kept"])
@pytest.mark.parametrize("batch", [False, True], ids=["single", "batch"])
@pytest.mark.parametrize("name", PASSES)
def test_each_is_its_own_formula(name, batch, kept, dtype, backend):
    leaves = inputs(dtype, batch)
    reductions = {key: make(M, N) for key, make in PASSES[name].items()}
    passed = {key: reduction for key, (reduction, _) in reductions.items()}
    options = {} if kept else {"workspace_bytes": 0}

    def of_dense(to):
        wide = cast(leaves, to)
        scores = dense_scores(wide)
        return with_gradients(flat({key: dense(*each, scores) for key, each in reductions.items()}), wide)

    ours = with_gradients(run(passed, leaves, backend, **options), leaves)
    check(ours, of_dense(torch.float64), of_dense(statistics_dtype(dtype)), dtype, backend)


@pytest.mark.parametrize("name", ["two temperatures", "sums alone", "three"])
def test_a_set_with_itself(name, dtype, backend):
    """Half of the pairs suffice where relations are symmetric; here some are, and the result is the same."""
    x = torch.randn(M, D, generator=torch.Generator().manual_seed(1)).to(dtype).requires_grad_()
    labels = ids(M, 4, 5)
    equal, on_diagonal = labels[:, None] == labels, torch.eye(M, dtype=torch.bool)
    passed = {
        "two temperatures": {
            "others": (LogSumExp(off_diagonal(), columns=True), ~on_diagonal),
            "hard": (LogSumExp(different(labels), rows=False, columns=True, factor=2.5), ~equal),
        },
        "sums alone": {
            "same": (ScoreSum(same(labels)), equal),
            "others": (ScoreSum(off_diagonal(), rows=False, columns=True), ~on_diagonal),
        },
        "three": {
            "a": (LogSumExp(off_diagonal()), ~on_diagonal),
            "b": (LogSumExp(same(labels) & off_diagonal(), factor=0.5), equal & ~on_diagonal),
            "c": (ScoreSum(same(labels), columns=True), equal),
        },
    }[name]

    def of_dense(to):
        wide = x.detach().to(to).requires_grad_()
        scores = 0.5 * wide @ wide.mT
        return with_gradients(flat({key: dense(*each, scores) for key, each in passed.items()}), {"queries": wide})

    found = reduce(x, x, {key: reduction for key, (reduction, _) in passed.items()}, scale=0.5, backend=backend)
    numbers = flat({key: {k: v for k, v in each._asdict().items() if v is not None} for key, each in found.items()})
    ours = with_gradients(numbers, {"queries": x})
    check(ours, of_dense(torch.float64), of_dense(statistics_dtype(dtype)), dtype, backend)


@pytest.mark.parametrize("m, n", [(0, 5), (5, 0), (1, 1)])
def test_without_pairs(m, n, backend):
    leaves = inputs(torch.float32, False, m=m, n=n)
    values = torch.zeros(m)
    found = reduce(
        leaves["queries"],
        leaves["keys"],
        {
            "lse": LogSumExp(off_diagonal(), columns=True),
            "sum": ScoreSum(off_diagonal()),
            "largest": Largest(off_diagonal()),
            "count": CountAbove(off_diagonal(), row_values=values),
        },
        backend=backend,
    )
    assert torch.equal(found["lse"].rows, torch.full((m,), -math.inf))
    assert torch.equal(found["lse"].columns, torch.full((n,), -math.inf))
    assert torch.equal(found["sum"].rows, torch.zeros(m))
    assert torch.equal(found["largest"].rows, torch.full((m,), -math.inf))
    assert torch.equal(found["count"].rows, torch.zeros(m, dtype=torch.int64))
    found["lse"].rows.masked_fill(found["lse"].rows.isinf(), 0.0).sum().backward()
    assert torch.equal(leaves["queries"].grad, torch.zeros(m, D))


def test_not_a_number_counts_as_above(backend):
    queries, keys = torch.eye(4), torch.eye(4)
    queries[1] = math.nan
    counts = reduce(
        queries,
        keys,
        {"count": CountAbove(columns=True, row_values=torch.zeros(4), col_values=torch.full((4,), 0.5))},
        backend=backend,
    )["count"]
    assert counts.rows.tolist() == [1, 4, 1, 1]
    assert counts.columns.tolist() == [2, 1, 2, 2]
    largest = reduce(queries, keys, {"largest": Largest()}, backend=backend)["largest"].rows
    assert largest.isnan().tolist() == [False, True, False, False]


def test_counts_and_largest_have_no_gradient(backend):
    leaves = inputs(torch.float32, False)
    found = reduce(**leaves, reductions={"a": Largest(), "b": CountAbove(row_values=torch.zeros(M))}, backend=backend)
    assert not any(x.rows.requires_grad for x in found.values())
    assert found["b"].rows.dtype == torch.int64
    scores: Tensor = dense_scores(leaves).detach()
    torch.testing.assert_close(found["a"].rows, scores.amax(1))


X = torch.eye(3)
BAD = {
    "no dict": (lambda: reduce(X, X, LogSumExp()), TypeError, ("must be a dict", "got LogSumExp")),
    "none": (lambda: reduce(X, X, {}), ValueError, ("1 to 4 reductions", "got 0")),
    "five": (lambda: reduce(X, X, {k: LogSumExp() for k in range(5)}), ValueError, ("1 to 4 reductions", "got 5")),
    "a relation": (lambda: reduce(X, X, {"a": diagonal()}), TypeError, ("['a']", "LogSumExp()", "got Relation")),
    "no kind": (lambda: reduce(X, X, {"a": Reduction()}), TypeError, ("LogSumExp()", "got Reduction")),
    "no direction": (lambda: reduce(X, X, {"a": ScoreSum(rows=False)}), ValueError, ("at least one direction",)),
    "relation": (lambda: reduce(X, X, {"a": ScoreSum("all")}), TypeError, ("['a']", "must be a Relation", "got str")),
    "factor": (lambda: reduce(X, X, {"a": ScoreSum(factor="2")}), TypeError, ("['a'].factor", "got str")),
    "learned factor": (
        lambda: reduce(X, X, {"a": LogSumExp(factor=torch.ones((), requires_grad=True))}),
        ValueError,
        ("['a'].factor requires grad", "detach"),
    ),
    "no values": (lambda: reduce(X, X, {"a": CountAbove()}), TypeError, ("['a'].row_values", "got None")),
    "other values": (
        lambda: reduce(X, X, {"a": CountAbove(columns=True, row_values=X[0], col_values=X)}),
        ValueError,
        ("['a'].col_values must have shape (3,)", "got (3, 3)"),
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    call, error, words = BAD[name]
    with pytest.raises(error) as caught:
        call()
    assert [word for word in words if word not in str(caught.value)] == []

"""Several reductions in one pass of the native kernels, over many tiles: right, and what must not change a bit."""

import pytest
import torch

from contrastive_ops import CountAbove, Largest, LogSumExp, ScoreSum, diagonal, different, off_diagonal, reduce, same
from contrastive_ops.backends.base import Wanted
from contrastive_ops.backends.cpu import CpuBackend
from contrastive_ops.backends.cpu.memory import plan_of
from contrastive_ops.backends.cpu.tiling import Shape
from contrastive_ops.backends.reference import ReferenceBackend
from contrastive_ops.build_problem import build_problem
from contrastive_ops.ops.volume_statistics import volume_problem
from contrastive_ops.problem import DEFAULT_WORKSPACE_BYTES
from contrastive_ops.reductions import Reduced
from contrastive_ops.testing import norm_error, tolerance_for

OURS, REFERENCE = CpuBackend(), ReferenceBackend()
EMBEDDINGS = ("d_queries", "d_keys")
CROSSING = (530, 275, 21)  # three row tiles and two column tiles, no size a multiple of tile or panel
FEW = {"few rows": (40, 1100, 21), "few columns": (900, 37, 21), "two tiles": (300, 2900, 5)}
PART = 600_000  # bytes of budget: some of the tiles of CROSSING, not all


def ids(length, values, seed):
    return torch.randint(values, (length,), generator=torch.Generator().manual_seed(seed))


def passes(batch, m, n):
    """By name: tuples of reductions, not in the order in which the kernels take them."""
    few, many = same(ids(m, 3, 0), ids(n, 3, 1)), different(ids(m, 40, 2), ids(n, 40, 3))
    row_values, col_values = (torch.linspace(-1, 2, batch * length).view(batch, length) for length in (m, n))
    values = {"row_values": row_values, "col_values": col_values}
    four = few & many & off_diagonal(2) & off_diagonal(-3)
    return {
        "two": (LogSumExp(off_diagonal(), columns=True), LogSumExp(few, factor=1.75)),
        "three": (
            LogSumExp(many, rows=False, columns=True, factor=0.5),
            LogSumExp(columns=True),
            LogSumExp(four, factor=-2.0),
        ),
        "with sums": (
            LogSumExp(factor=0.25),
            ScoreSum(diagonal(), columns=True, factor=-1.5),
            LogSumExp(few, rows=False, columns=True),
            ScoreSum(four, rows=False, columns=True),
        ),
        "with ranks": (
            LogSumExp(few, columns=True),
            CountAbove(many, True, True, 3.0, **values),
            Largest(four, columns=True, factor=-1.0),
            LogSumExp(factor=2.0),
        ),
        "one at another temperature": (LogSumExp(four, columns=True, factor=3.0), ScoreSum(few)),
        # lines far below the largest score of their tile have references of their own
        "steep": (LogSumExp(off_diagonal(), columns=True, factor=60.0), LogSumExp(few, columns=True, factor=-40.0)),
        "steep alone": (Largest(), LogSumExp(few, columns=True, factor=60.0)),
        "sums alone": (ScoreSum(few), ScoreSum(diagonal(), rows=False, columns=True, factor=2.0)),
        "no slope": (Largest(four, columns=True), CountAbove(few, True, True, None, **values)),
    }


NAMES = tuple(passes(1, 1, 1))


def make_problem(name, dtype, sizes=CROSSING, batch=1, banks=0, workspace_bytes=DEFAULT_WORKSPACE_BYTES):
    """As backends see it; a volume of so many banks, or products for 0."""
    m, n, d = sizes
    generator = torch.Generator().manual_seed(3)

    def random(*shape):
        return torch.randn(batch, *shape, generator=generator)

    anchor, *others = (random(rows, d).div(d**0.5).to(dtype) for rows in (m, *[n] * max(1, banks)))
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    reductions = {str(r): reduction for r, reduction in enumerate(passes(batch, m, n)[name])}
    options = {"scale": torch.tensor(-2.5, dtype=wide), "row_bias": random(m).to(wide), "col_bias": random(n).to(wide)}
    problem = build_problem(anchor, others[0], reductions, **options, workspace_bytes=workspace_bytes)
    if banks:
        volume, _ = volume_problem(anchor, others, rows=True, columns=True, **options, workspace_bytes=workspace_bytes)
        problem = volume._replace(reductions=problem.reductions)
    return problem.with_batch()


def as_double(problem):
    """The same numbers, to be computed with in float64."""
    return problem.map(lambda leaf, tensor: tensor.double() if tensor.is_floating_point() else tensor)


def solve(problem, backend=OURS):
    results, state = backend.forward(problem)
    found = {f"{name} {r}": value for r, each in enumerate(results) for name, value in each._asdict().items()}
    if any(reduction.has_slope for reduction in problem.reductions):
        terms = problem.score.row_term is not None
        wanted = Wanted(True, not problem.self_similarity, True, True, not problem.self_similarity, terms, terms)
        gradients = backend.backward(problem, results, upstream_of(problem, results), state, wanted)
        found |= {f"d_{name}": value for name, value in gradients._asdict().items()}
    return {name: value for name, value in found.items() if value is not None}


def upstream_of(problem, results):
    def given(value):
        return None if value is None else torch.linspace(0.5, 1.5, value.numel(), dtype=value.dtype).view_as(value)

    return tuple(
        Reduced(*map(given, result)) if reduction.has_slope else Reduced(None, None)
        for reduction, result in zip(problem.reductions, results, strict=True)
    )


def assert_right(problem):
    """Within the error of the dense formula in the statistics dtype and an epsilon of float64."""
    found, truth, dense = solve(problem), solve(as_double(problem), REFERENCE), solve(problem, REFERENCE)
    value, grad = tolerance_for(problem.dtype, "cpu")
    assert found.keys() == truth.keys()
    for name, true in truth.items():
        if true.dtype == torch.int64:  # a score within rounding of its value may be counted or not
            assert (found[name] - true).abs().sum() <= 1e-4 * true.sum(), name
            continue
        allowed = 2 * norm_error(dense[name], true) + (grad if name in EMBEDDINGS else value)
        assert norm_error(found[name], true) <= allowed, name
    return found


def assert_same_bits(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name].nan_to_num(7.0), value.nan_to_num(7.0)), name


@pytest.mark.parametrize("banks", [0, 2], ids=["dot", "volume"])
@pytest.mark.parametrize("name", NAMES)
def test_many_tiles(name, banks, dtype):
    """Right, and the same bits whatever part of the tiles is kept and on any number of threads."""
    expected = assert_right(make_problem(name, dtype, banks=banks))
    for threads, workspace_bytes in ((3, 0), (2, PART)):
        torch.set_num_threads(threads)
        problem = make_problem(name, dtype, banks=banks, workspace_bytes=workspace_bytes)
        assert_same_bits(solve(problem), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("walk", "banks"), [("few rows", 0), ("few rows", 2), ("few columns", 0), ("two tiles", 0)])
@pytest.mark.parametrize("name", NAMES)
def test_few_lines(name, walk, banks, dtype):
    """Stripes of columns with rows of their own; the transposed problem; also in a batch."""
    sizes = FEW[walk]
    expected = assert_right(make_problem(name, dtype, sizes, batch=2, banks=banks))
    for threads, workspace_bytes in ((1, 0), (3, PART)):
        torch.set_num_threads(threads)
        problem = make_problem(name, dtype, sizes, 2, banks, workspace_bytes)
        assert_same_bits(solve(problem), expected)


def test_few_lines_are_few():
    """What the test above calls so."""
    tilings = {walk: plan_of(Shape.of(make_problem("two", torch.float32, FEW[walk]))).tiling for walk in FEW}
    assert {walk: tiling.stripes > 1 for walk, tiling in tilings.items()} == {
        "few rows": True,
        "few columns": False,  # transposed it has few rows
        "two tiles": True,
    }
    assert tilings["two tiles"].row_tiles == 2
    turned = make_problem("two", torch.float32, FEW["few columns"]).transposed()
    assert plan_of(Shape.of(turned)).tiling.stripes > 1


@pytest.mark.parametrize("wanted", ["keys scale", "queries scale", "scale", "keys", "row_bias"])
@pytest.mark.parametrize("sizes", [(1, 8, 4), (8, 1, 4), *FEW.values(), (60, 50, 7)], ids=str)
def test_some_of_the_gradients(sizes, wanted):
    """Where dscale comes from depends on what else is wanted, and on the walk."""
    problem = make_problem("one at another temperature", torch.float32, sizes)
    results, state = OURS.forward(problem)
    arguments = problem, results, upstream_of(problem, results), state
    found = OURS.backward(*arguments, Wanted(**dict.fromkeys(wanted.split(), True)))
    everything = OURS.backward(*arguments, Wanted(True, True, True, True, True))
    for name, gradient in found._asdict().items():
        assert (gradient is not None) == (name in wanted.split())
        if gradient is not None:
            whole = getattr(everything, name)
            torch.testing.assert_close(gradient, whole, rtol=0, atol=1e-5 * whole.abs().max().item())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sizes", [(1, 1, 1), (7, 40, 3), (33, 16, 70), (100, 257, 5)], ids=str)
def test_batches_of_other_sizes(sizes, name):
    assert_right(make_problem(name, torch.float32, sizes, batch=3))


@pytest.mark.parametrize("sizes", [(0, 5, 3), (5, 0, 3), (0, 0, 1), (0, 1, 3), (1, 0, 3)], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_no_pairs(name, sizes):
    problem = make_problem(name, torch.float32, sizes)
    found, expected = solve(problem), solve(problem, REFERENCE)
    assert_same_bits(found, expected)


def test_a_part_of_the_tiles_is_kept():
    """What the tests above call so."""
    for name, banks in (("two", 0), ("two", 2), ("one at another temperature", 0)):
        plan = plan_of(Shape.of(make_problem(name, torch.float32, banks=banks, workspace_bytes=PART)))
        assert 0 < plan.kept_tiles < plan.tiling.tiles


def test_state_is_for_what_backward_reads():
    """None without a slope; of sums the operands alone."""
    for name, kept in (("no slope", False), ("sums alone", False), ("two", True)):
        problem = make_problem(name, torch.float32)
        assert (OURS.forward(problem)[1] is None) == (name == "no slope")
        assert (OURS.state_bytes(problem) == 0) == (name == "no slope")
        assert (plan_of(Shape.of(problem)).kept_tiles > 0) == kept


def symmetric_passes(n):
    labels = ids(n, 5, 4)
    return {
        "two": (LogSumExp(off_diagonal(), columns=True), LogSumExp(different(labels), False, True, 2.5)),
        "three": (
            LogSumExp(same(labels) & off_diagonal(), factor=-0.5),
            LogSumExp(columns=True),
            ScoreSum(same(labels), False, True, 0.5),
            LogSumExp(off_diagonal(), False, True, 30.0),
        ),
        "sums": (ScoreSum(off_diagonal()), ScoreSum(same(labels), False, True)),
    }


@pytest.mark.parametrize("n", [60, 200, 530])
@pytest.mark.parametrize("name", ["two", "three", "sums"])
def test_self_similarity(name, n, dtype):
    """Half of the pairs, with reductions of different directions."""
    x = torch.randn(2, n, 19, generator=torch.Generator().manual_seed(5)).div(4).to(dtype)
    bias = torch.linspace(-1, 1, 2 * n).view(2, n).to(torch.float64 if dtype == torch.float64 else torch.float32)
    options = {"scale": 3.0, "row_bias": bias, "col_bias": bias}
    reductions = {str(r): reduction for r, reduction in enumerate(symmetric_passes(n)[name])}

    def problem(**more):
        return build_problem(x, x, reductions, **options, **more).with_batch()

    assert problem().self_similarity
    expected = assert_right(problem())
    torch.set_num_threads(3)
    for workspace_bytes in (0, PART):
        assert_same_bits(solve(problem(workspace_bytes=workspace_bytes)), expected)


@pytest.mark.parametrize("factor", [None, 0.3, -1.7])
@pytest.mark.parametrize("banks", [0, 3], ids=["dot", "volume"])
def test_a_tie_is_never_above(banks, factor, dtype):
    """The largest scores of one pass are those that another pass compares, bit by bit, beside whatever else."""
    m, n = CROSSING[:2]
    problem = make_problem("two", dtype, banks=banks)
    relation = same(ids(m, 3, 0).view(1, m), ids(n, 3, 1).view(1, n))
    factor = None if factor is None else torch.tensor(factor, dtype=problem.scale.dtype)
    largest = Largest(relation, True, True, factor)
    (top,), _ = OURS.forward(problem._replace(reductions=(largest,)))
    count = CountAbove(relation, True, True, factor, *top)
    for reductions in ((count,), (*problem.reductions, count)):
        results, _ = OURS.forward(problem._replace(reductions=reductions))
        assert all((value == 0).all() for value in results[-1])
    lower = CountAbove(relation, True, True, factor, *(x - 1e-3 * x.abs() - 1e-5 for x in top))
    (counted,), _ = OURS.forward(problem._replace(reductions=(lower,)))
    assert all((value > 0).all() for value in counted)


@pytest.mark.parametrize("others", [0, 1], ids=["alone", "beside another"])
def test_not_a_number_stays_in_its_lines(others):
    m, n, d = 300, 150, 8
    generator = torch.Generator().manual_seed(6)
    q, k = (torch.randn(size, d, generator=generator) for size in (m, n))
    q[200, 3] = torch.nan
    values = torch.full((m,), 1e9)
    reductions = {
        "largest": Largest(off_diagonal(), columns=True),
        "count": CountAbove(row_values=values),
        "lse": LogSumExp(off_diagonal(), columns=True),
        "other": LogSumExp(factor=2.0),
    }
    reductions = dict(list(reductions.items())[: 3 + others])
    found = reduce(q, k, reductions, backend="cpu")
    expected = reduce(q, k, reductions, backend="reference")
    for name in ("largest", "lse"):
        assert found[name].rows.isnan().nonzero().tolist() == [[200]]
        assert found[name].columns.isnan().all()
    assert found["count"].rows[200] == n
    assert torch.equal(found["count"].rows, expected["count"].rows)


def test_an_upstream_gradient_of_one_alone():
    """What is not asked for adds nothing, whichever it is."""
    problem = make_problem("with sums", torch.float32)
    results, state = OURS.forward(problem)
    wanted = Wanted(queries=True, keys=True, row_bias=True)
    nothing = Reduced(None, None)
    total = None
    for r, given in enumerate(upstream_of(problem, results)):
        alone = tuple(given if x == r else nothing for x in range(len(results)))
        found = OURS.backward(problem, results, alone, state, wanted)
        expected = REFERENCE.backward(problem, results, alone, torch.empty(0), wanted)
        for name in ("queries", "keys", "row_bias"):
            assert norm_error(getattr(found, name), getattr(expected, name)) <= 1e-5, (r, name)
        total = found.queries if total is None else total + found.queries
    together = OURS.backward(problem, results, upstream_of(problem, results), state, wanted)
    assert norm_error(together.queries, total) <= 1e-5

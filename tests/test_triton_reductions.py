"""Tuples of reductions in one pass of the Triton kernels, against the dense formula in float64: in any order, each with
its own relation, directions and factor."""

import pytest
import torch

pytest.importorskip("triton", reason="triton exists for Linux only")

from contrastive_ops import diagonal, different, off_diagonal, same
from contrastive_ops.backends.gpu import macro
from contrastive_ops.backends.gpu.gpu_size import GpuSize
from contrastive_ops.backends.triton import launch
from contrastive_ops.build_problem import build_problem
from contrastive_ops.ops.reduce import reduce, reduced
from contrastive_ops.ops.volume_statistics import volume_problem
from contrastive_ops.reductions import CountAbove, Largest, LogSumExp, Reduced, ScoreSum
from contrastive_ops.triton_kernels import gradient_bwd, macro_bwd, reduce_fwd

TILE = 64  # of the interpreter
VALUE_ERROR = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 2e-5, torch.float16: 2e-5}
GRADIENT_ERROR = {torch.float64: 1e-10, torch.float32: 2e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}
BOTH = {"rows": True, "columns": True}
COLUMNS = {"rows": False, "columns": True}


def seeded(*shape, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64).to(dtype)


def unit_vectors(*shape, dtype):
    return torch.nn.functional.normalize(seeded(*shape), dim=-1).to(dtype)


def dense(scores, reductions):
    """The definition of every reduction; a line without pairs has gradient 0."""
    found = {}
    for name, reduction in reductions.items():
        t = scores if reduction.factor is None else scores * reduction.factor
        mask = reduction.relation.mask(*scores.shape[-2:], scores.device)
        mask = torch.ones_like(t, dtype=torch.bool) if mask is None else mask.expand_as(t)
        lines = []
        for dim, wanted, values in (
            (-1, reduction.rows, reduction.row_values),
            (-2, reduction.columns, reduction.col_values),
        ):
            if not wanted:
                lines.append(None)
            elif isinstance(reduction, LogSumExp):
                empty = ~mask.any(dim, keepdim=True)
                chosen = t.masked_fill(~mask & ~empty, -torch.inf)
                lines.append(chosen.logsumexp(dim).masked_fill(empty.squeeze(dim), -torch.inf))
            elif isinstance(reduction, ScoreSum):
                lines.append(t.masked_fill(~mask, 0.0).sum(dim))
            elif isinstance(reduction, Largest):
                lines.append(t.detach().masked_fill(~mask, -torch.inf).amax(dim))
            else:
                lines.append((~(t <= values.double().unsqueeze(dim)) & mask).sum(dim))
        found[name] = Reduced(*lines)
    return found


def objective(found):
    """A sum in which every line of every reduction with a slope has another weight."""
    total = 0.0
    for i, result in enumerate(found.values()):
        for side, line in enumerate(result):
            if line is not None and line.is_floating_point() and line.requires_grad:
                weights = torch.linspace(0.5, 1.5, line.shape[-1], dtype=line.dtype) * (1 + i - 0.5 * side)
                total = total + (line.masked_fill(line == -torch.inf, 0.0) * weights).sum()
    return total


def check(reductions, m, n, d, dtype=torch.float32, batch=(), workspace_bytes=0, is_self=False, biases=True):
    """Values, and the gradients of queries, keys, scale and biases."""
    queries = unit_vectors(*batch, m, d, dtype=dtype).requires_grad_()
    keys = queries if is_self else unit_vectors(*batch, n, d, dtype=dtype).requires_grad_()
    statistics = torch.float64 if dtype == torch.float64 else torch.float32
    leaves = {"queries": queries, "scale": torch.tensor(7.5, dtype=statistics, requires_grad=True)}
    if not is_self:
        leaves["keys"] = keys
    if biases and not is_self:
        leaves |= {
            "row_bias": (0.1 * seeded(*batch, m)).to(statistics).requires_grad_(),
            "col_bias": (0.1 * seeded(*batch, n)).to(statistics).requires_grad_(),
        }
    true = {name: leaf.detach().double().requires_grad_() for name, leaf in leaves.items()}

    others = {name: leaf for name, leaf in leaves.items() if name not in ("queries", "keys")}
    ours = reduce(queries, keys, reductions, backend="triton", workspace_bytes=workspace_bytes, **others)
    scores = true["scale"] * true["queries"] @ true["queries" if is_self else "keys"].mT
    if "row_bias" in true:
        scores = scores + true["row_bias"].unsqueeze(-1) + true["col_bias"].unsqueeze(-2)
    compare(ours, dense(scores, reductions), leaves, true, dtype)


def compare(ours, expected, leaves, true, dtype):
    for name, pair in expected.items():
        for line, other in zip(ours[name], pair, strict=True):
            assert (line is None) == (other is None)
            if line is None:
                continue
            if line.dtype == torch.int64:
                assert torch.equal(line, other), name
            else:
                largest = other[other.isfinite()].abs().max().item()
                torch.testing.assert_close(line.double(), other, rtol=0, atol=VALUE_ERROR[dtype] * largest)
    given, wanted = objective(ours), objective(expected)
    if isinstance(given, float):  # nothing has a slope
        return
    gradients = torch.autograd.grad(given, list(leaves.values()))
    for (name, leaf), gradient in zip(true.items(), gradients, strict=True):
        (other,) = torch.autograd.grad(wanted, leaf, retain_graph=True)
        error = (gradient.double() - other).norm() / other.norm()
        assert error < GRADIENT_ERROR[dtype], (name, float(error))


def between_scores(m, n, *, columns=False):
    """Numbers within the range of the scores of a line, [m] or [n]."""
    return 0.5 + 0.3 * seeded(n if columns else m, dtype=torch.float32)


ids = torch.arange(300) % 7
groups = torch.arange(300) // 40

TUPLES = {
    "two temperatures": {
        "first": LogSumExp(off_diagonal(), **BOTH),
        "second": LogSumExp(off_diagonal(), **BOTH, factor=0.25),
    },
    "three relations, three directions": {
        "rows": LogSumExp(off_diagonal()),
        "columns": LogSumExp(different(ids[:130], ids[:200]), **COLUMNS, factor=-0.5),
        "both": LogSumExp(**BOTH),
    },
    "sums first": {
        "sum": ScoreSum(diagonal(3), factor=2.0),
        "other sum": ScoreSum(same(ids[:130], ids[:200]), **COLUMNS),
        "logs": LogSumExp(off_diagonal(-70), **BOTH),
        "every": ScoreSum(**BOTH),
    },
    "four clauses": {
        "logs": LogSumExp(
            different(ids[:130], ids[:200]) & same(groups[:130], groups[:200]) & off_diagonal(1) & off_diagonal(-1),
            **BOTH,
        ),
        "sum": ScoreSum(same(ids[:130], ids[:200]) & off_diagonal() & off_diagonal(7) & off_diagonal(-7), **BOTH),
    },
    "columns alone": {
        "logs": LogSumExp(off_diagonal(), **COLUMNS),
        "sum": ScoreSum(diagonal(-2), **COLUMNS, factor=3.0),
        "largest": Largest(same(ids[:130], ids[:200]), **COLUMNS),
    },
    "all four": {
        "largest": Largest(diagonal(5), **BOTH, factor=-1.0),
        "above": CountAbove(
            off_diagonal(),
            **BOTH,
            row_values=between_scores(130, 200),
            col_values=between_scores(130, 200, columns=True),
        ),
        "logs": LogSumExp(different(ids[:130], ids[:200])),
        "sum": ScoreSum(same(ids[:130], ids[:200]), **BOTH),
    },
    "no slope": {
        "above": CountAbove(**COLUMNS, col_values=between_scores(130, 200, columns=True), factor=0.5),
        "largest": Largest(off_diagonal(), **BOTH),
    },
}


@pytest.mark.parametrize("name", TUPLES)
def test_tuples(name):
    """Two stripes and more of tiles in both directions, in one level."""
    check(TUPLES[name], 130, 200, 12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_dtypes(dtype):
    check(TUPLES["sums first"], 130, 200, 12, dtype)


@pytest.fixture
def launched(monkeypatch):
    """Names of the kernels that were launched; macro-blocks of two tiles in float32."""
    found = []
    run = launch.Launch.run
    monkeypatch.setattr(launch.Launch, "run", lambda one: found.append(one) or run(one))
    monkeypatch.setattr(macro, "gpu_size", lambda device: GpuSize(4, TILE * 2 * TILE * 4))
    return found


@pytest.mark.parametrize("workspace_bytes", [0, 2**20], ids=["computed twice", "kept"])
@pytest.mark.parametrize("name", ["two temperatures", "all four"])
def test_two_levels(name, workspace_bytes, launched):
    check(TUPLES[name], 130, 200, 132, workspace_bytes=workspace_bytes)
    blocks = [x.arguments for x in launched if x.kernel is macro_bwd.macro_gradient_kernel]
    assert len(blocks) > 1
    assert {x["kept"] is None for x in blocks} == {workspace_bytes == 0}


def test_one_score_pass_and_one_gradient_pass(launched):
    """However many reductions: a merge for each direction, a gradient for each side."""
    check(TUPLES["all four"], 130, 200, 12)
    assert [x.kernel for x in launched] == [
        reduce_fwd.reduce_fwd_kernel,
        *[reduce_fwd.merge_states_kernel] * 2,
        *[gradient_bwd.gradient_bwd_kernel] * 2,
    ]


@pytest.mark.parametrize("d", [9, 132], ids=["one level", "two levels"])
def test_self_similarity(d, launched):
    labels = ids[:150]
    check(
        {
            "rest": LogSumExp(different(labels), **BOTH),
            "hot": LogSumExp(off_diagonal(), factor=0.2),
            "sum": ScoreSum(same(labels) & off_diagonal(), **COLUMNS),
        },
        150,
        150,
        d,
        is_self=True,
    )
    score_passes = [x.arguments["SELF"] for x in launched if x.kernel is reduce_fwd.reduce_fwd_kernel]
    assert score_passes == [True]


def test_batch_and_empty_lines():
    """Ids of each entry; the second has a row and columns without candidates."""
    row_ids, col_ids = torch.arange(2 * 70).view(2, 70) % 5, torch.arange(2 * 90).view(2, 90) % 5
    row_ids[1, 3] = 9
    check(
        {
            "logs": LogSumExp(same(row_ids, col_ids), **BOTH),
            "largest": Largest(same(row_ids, col_ids), **BOTH),
            "sum": ScoreSum(different(row_ids, col_ids), factor=-2.0),
        },
        70,
        90,
        8,
        batch=(2,),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_volumes(dtype, launched):
    banks, m, n, d = 2, 70, 130, 12
    reductions = {
        "sum": ScoreSum(diagonal(), **BOTH),
        "logs": LogSumExp(off_diagonal(), **BOTH),
        "hot": LogSumExp(off_diagonal(), factor=-0.5),
        "largest": Largest(off_diagonal(2), **BOTH, factor=-1.0),
    }
    anchor = unit_vectors(m, d, dtype=dtype).requires_grad_()
    data = [unit_vectors(n + bank, d, dtype=dtype)[bank:].requires_grad_() for bank in range(banks)]
    leaves = {"anchor": anchor, "first": data[0], "second": data[1], "scale": torch.tensor(-3.0, requires_grad=True)}
    problem, _ = volume_problem(anchor, data, scale=leaves["scale"], rows=True, columns=True)
    problem = problem._replace(reductions=build_problem(anchor, data[0], reductions).reductions)
    true = {name: leaf.detach().double().requires_grad_() for name, leaf in leaves.items()}
    ours = dict(zip(reductions, reduced(problem, "triton"), strict=True))
    vectors = torch.stack(
        [true["anchor"][:, None].expand(m, n, d), *(true[x].expand(m, n, d) for x in ("first", "second"))], -2
    )
    volumes = torch.linalg.det(vectors @ vectors.mT).clamp(min=0).sqrt()
    compare(ours, dense(true["scale"] * volumes, reductions), leaves, true, dtype)


def test_a_tie_is_never_above():
    """The largest of the positives from one pass, the number of candidates above it from another."""
    queries, keys = unit_vectors(90, 17, dtype=torch.float32), unit_vectors(150, 17, dtype=torch.float32)
    keys[100:140] = keys[:40]  # as good as the positive
    bias = seeded(150, dtype=torch.float32)
    bias[100:140] = bias[:40]
    given = {"scale": 11.0, "col_bias": bias, "backend": "triton"}
    positives = diagonal()
    best = reduce(queries, keys, {"best": Largest(positives, factor=0.3), "logs": LogSumExp(**BOTH)}, **given)["best"]
    above = reduce(queries, keys, {"above": CountAbove(row_values=best.rows, factor=0.3)}, **given)["above"].rows
    scores = 11.0 * queries.double() @ keys.double().T + bias.double()
    gaps = scores - scores.diagonal()[:, None]
    assert torch.equal(above, (gaps > 1e-6).sum(1))
    assert (gaps.abs() < 1e-6).sum() > 90  # there are ties


def test_nan():
    """A line with a NaN among its pairs has a NaN as its largest; NaN is above every number."""
    queries, keys = unit_vectors(70, 9, dtype=torch.float32), unit_vectors(80, 9, dtype=torch.float32)
    queries[66, 2] = torch.nan
    values = torch.full((70,), 2.0)
    values[1] = torch.nan
    found = reduce(
        queries,
        keys,
        {"largest": Largest(off_diagonal(), **BOTH), "above": CountAbove(off_diagonal(), row_values=values)},
        backend="triton",
    )
    rows, columns = found["largest"]
    assert rows.isnan().nonzero().tolist() == [[66]]
    assert columns.isfinite().nonzero().tolist() == [[66]]
    assert found["above"].rows.tolist() == [79 if i in (1, 66) else 0 for i in range(70)]

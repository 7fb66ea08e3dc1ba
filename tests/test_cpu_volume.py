"""The native kernels of the volume score: every K over ragged tiles, and what must not change a bit."""

import pytest
import torch

from contrastive_ops import _native, diagonal, off_diagonal
from contrastive_ops.backends.base import Wanted
from contrastive_ops.backends.cpu import CpuBackend, native
from contrastive_ops.backends.cpu.memory import plan_of
from contrastive_ops.backends.cpu.tiling import Shape
from contrastive_ops.backends.reference import ReferenceBackend
from contrastive_ops.ops.volume_statistics import volume_problem
from contrastive_ops.problem import DEFAULT_WORKSPACE_BYTES
from contrastive_ops.reductions import Reduced
from contrastive_ops.testing import norm_error, tolerance_for

EVERYTHING = Wanted(True, True, True, True, True, True, True)
BACKEND = CpuBackend()


def make_problem(banks, dtype, sizes=(530, 275, 21), workspace_bytes=DEFAULT_WORKSPACE_BYTES, **options):
    """Three row tiles and several column tiles, no size a multiple of tile or panel."""
    m, n, d = sizes
    generator = torch.Generator().manual_seed(banks)
    anchor, *modalities = (
        torch.randn(1, rows, d, generator=generator).div(d**0.5).to(dtype) for rows in (m, *[n] * banks)
    )
    problem, _ = volume_problem(
        anchor,
        modalities,
        scale=-6.0,
        row_bias=torch.randn(1, m, generator=generator),
        col_bias=torch.randn(1, n, generator=generator),
        candidates=off_diagonal(),
        positives=diagonal(),
        rows=True,
        columns=True,
        workspace_bytes=workspace_bytes,
        **options,
    )
    return problem.with_batch()


def as_double(problem):
    """The same numbers, to be computed with in float64."""
    return problem.map(lambda leaf, tensor: tensor.double() if tensor.is_floating_point() else tensor)


def solve(problem, backend=BACKEND, wanted=EVERYTHING):
    results, state = backend.forward(problem)
    upstream = tuple(
        Reduced(*(torch.linspace(0.5, 1.5, x.numel(), dtype=x.dtype).view_as(x) for x in each)) for each in results
    )
    gradients = backend.backward(problem, results, upstream, state, wanted)
    found = {f"{name}{r}": value for r, each in enumerate(results) for name, value in each._asdict().items()}
    return {**found, **{f"d_{name}": value for name, value in gradients._asdict().items()}}


def assert_right(problem):
    found = solve(problem)
    truth, dense = solve(as_double(problem), ReferenceBackend()), solve(problem, ReferenceBackend())
    value, grad = tolerance_for(problem.dtype, "cpu")
    for name, true in truth.items():
        is_embedding = name in ("d_queries", "d_keys")
        allowed = norm_error(dense[name], true) + (grad if is_embedding else value)
        assert norm_error(found[name], true) <= allowed, name
    return found


@pytest.mark.parametrize("banks", range(1, 8))
def test_any_number_of_banks(banks, dtype):
    """Right, and the same bits whatever part of the products is kept and on any number of threads."""
    torch.set_num_threads(2)
    expected = assert_right(make_problem(banks, dtype))
    kept = []
    for threads, workspace_bytes in ((1, 0), (3, 1_000_000)):
        problem = make_problem(banks, dtype, workspace_bytes=workspace_bytes)
        plan = plan_of(Shape.of(problem))
        kept.append(plan.kept_tiles / plan.tiling.tiles)
        torch.set_num_threads(threads)
        for name, value in solve(problem).items():
            assert torch.equal(value, expected[name]), (name, threads, workspace_bytes)
    assert kept[0] == 0 and kept[1] < 1
    assert banks > 2 or kept[1] > 0


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
def test_instruction_sets(isa, dtype, monkeypatch):
    try:
        kernels = _native.kernels(isa)
    except ValueError:
        pytest.skip(f"this processor has no {isa}")
    monkeypatch.setattr(native, "kernels", lambda: kernels)
    plan_of.cache_clear()
    try:
        assert_right(make_problem(3, dtype, sizes=(140, 203, 45)))
    finally:
        plan_of.cache_clear()


@pytest.mark.parametrize("name", ["queries", "keys", "scale", "row_bias", "col_bias", "row_term", "col_term"])
def test_one_gradient_alone(name):
    problem = make_problem(2, torch.float32, sizes=(150, 170, 20))
    everything = solve(problem)
    nothing = EVERYTHING._make([False] * 7 + [None])
    alone = solve(problem, wanted=nothing._replace(**{name: True}))
    for gradient in Wanted._fields[:7]:
        expected = everything[f"d_{gradient}"]
        assert (alone[f"d_{gradient}"] is None) if gradient != name else torch.equal(alone[f"d_{name}"], expected)


def test_a_negative_distance():
    """rho^2 below 0 in some rows: 0 without gradient, or its absolute value with the sign turned."""
    for absolute in (False, True):
        problem = make_problem(2, torch.float32, sizes=(150, 170, 20), absolute=absolute)
        problem.score.row_term[:, ::3] = -0.5
        found = assert_right(problem)
        assert (found["d_row_term"][:, ::3] == 0).all() != absolute

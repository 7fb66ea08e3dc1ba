"""The volume score: statistics and every gradient against stored Gram matrices in float64, on every backend."""

from functools import lru_cache

import pytest
import torch
import torch.nn.functional as F
from conftest import AVAILABLE_BACKENDS, SLOW_BACKENDS
from dense_volumes import dense_volumes

from contrastive_ops import all_pairs, diagonal, off_diagonal, volume_statistics
from contrastive_ops.problem import DEFAULT_WORKSPACE_BYTES, statistics_dtype
from contrastive_ops.testing import (
    DTYPES,
    LAYOUTS,
    RELATIONS,
    Case,
    Inputs,
    dense_statistics,
    differentiate,
    norm_error,
    tolerance_for,
    worst_row_error,
)

# M, N, D: D above K, where volumes are not 0; the last crosses several native tiles
SHAPES = ((5, 3, 17), (1, 7, 9), (7, 1, 16), (17, 33, 64), (0, 9, 16), (9, 0, 16), (130, 70, 40), (150, 140, 24))
DIRECTIONS = ((True, True), (True, False), (False, True))
BIASES = ((False, False), (True, True), (True, False), (False, True))
SCALES = (-14.25, 1.0, -3.5)


def _cases():
    """(K, case): every relation with a few shapes, the other axes with coprime periods."""
    cases = []
    for relation in RELATIONS:
        for shape in range(3):
            k = len(cases)
            rows, columns = DIRECTIONS[k % 3]
            row_bias, col_bias = BIASES[k % 4]
            sizes = SHAPES[(k + shape) % len(SHAPES)]
            large = sizes[0] * sizes[1] > 10_000
            case = Case(
                relation,
                sizes,
                layout="contiguous" if large else list(LAYOUTS)[k % 11 % len(LAYOUTS)],
                batch=0 if large else (0, 2, 0, 1, 0)[k % 5],
                rows=rows,
                columns=columns,
                row_bias=row_bias,
                col_bias=col_bias,
                tensor_scale=k % 5 != 4,
                scale=SCALES[k % 13 % 3],
            )
            cases.append((k % 7 + 1, case))
    return cases


CASES = _cases()


def make_volume_inputs(case, dtype, count, seed=0):
    """(`Inputs` whose keys are the first modality, all modalities): neither normalised nor orthogonal."""
    m, n, d = case.sizes
    batch = (case.batch,) if case.batch else ()
    generator = torch.Generator().manual_seed(seed)
    layout = LAYOUTS[case.layout]

    def embeddings(rows, norm):
        values = norm * F.normalize(torch.randn(*batch, rows, d, generator=generator), dim=-1)
        return layout(values.to(dtype)).detach().requires_grad_()

    def leaf(size):
        return torch.randn(*batch, size, generator=generator).to(statistics_dtype(dtype)).requires_grad_()

    anchor = embeddings(m, 1.25)
    modalities = [embeddings(n, 0.75 + 0.125 * k) for k in range(count)]
    candidates, positives = RELATIONS[case.relation](m, n, case.batch)
    scale = torch.tensor(case.scale, dtype=statistics_dtype(dtype))
    inputs = Inputs(
        queries=anchor,
        keys=modalities[0],
        scale=scale.requires_grad_() if case.tensor_scale else case.scale,
        row_bias=leaf(m) if case.row_bias else None,
        col_bias=leaf(n) if case.col_bias else None,
        candidates=candidates,
        positives=positives,
    )
    return inputs, modalities


def leaves_of(inputs, modalities):
    """Everything to differentiate; the keys of `inputs` are the first modality."""
    others = {name: leaf for name, leaf in inputs.leaves().items() if name != "keys"}
    return {**others, **{f"modality{k}": modality for k, modality in enumerate(modalities)}}


def run(case, inputs, modalities, backend, **options):
    statistics = volume_statistics(
        inputs.queries,
        modalities,
        scale=inputs.scale,
        row_bias=inputs.row_bias,
        col_bias=inputs.col_bias,
        candidates=inputs.candidates.relation,
        positives=None if inputs.positives is None else inputs.positives.relation,
        rows=case.rows,
        columns=case.columns,
        backend=backend,
        **options,
    )
    values = {name: value for name, value in statistics._asdict().items() if value is not None}
    return {**values, **differentiate(values, leaves_of(inputs, modalities))}


def dense_run(case, inputs, modalities, dtype):
    """The same from stored Gram matrices in `dtype`; sizes of the terms, where they cancel."""
    leaves = {name: leaf.detach().to(dtype).requires_grad_() for name, leaf in leaves_of(inputs, modalities).items()}
    scale = leaves.get("scale", inputs.scale)
    volumes = dense_volumes(leaves["queries"], [leaves[f"modality{k}"] for k in range(len(modalities))])
    scores = scale * volumes
    if inputs.row_bias is not None:
        scores = scores + leaves["row_bias"][..., :, None]
    if inputs.col_bias is not None:
        scores = scores + leaves["col_bias"][..., None, :]
    values = dense_statistics(scores, inputs, case)
    ds = differentiate(values, {"scores": scores}, positive_upstream=True)["d_scores"].detach()
    sizes = {"d_row_bias": ds.norm(dim=-1), "d_col_bias": ds.norm(dim=-2)}
    sizes["d_scale"] = (ds * volumes.detach()).sum(-1).abs().sum()
    # |dV/da| <= the volume of the data, |dV/dx| <= what the others span: products of norms bound them all
    reach = abs(case.scale) * 2.0
    sizes["d_queries"] = reach * ds.norm(dim=-1)
    sizes |= {f"d_modality{k}": reach * ds.norm(dim=-2) for k in range(len(modalities))}
    if inputs.positives is not None:
        positive = scores.detach().masked_fill(~inputs.positives.mask, 0.0)
        sizes |= {"row_sum": positive.norm(dim=-1), "col_sum": positive.norm(dim=-2)}
    results = {**values, **differentiate(values, leaves)}
    return {name: value.detach() for name, value in results.items()}, sizes


@lru_cache(maxsize=16)  # the backends are asked one after another
def truth_of(case, dtype, count):
    """In float64, with the sizes of the terms; and in the statistics dtype."""
    inputs, modalities = make_volume_inputs(case, dtype, count)
    exact = dense_run(case, inputs, modalities, torch.float64)
    return *exact, dense_run(case, inputs, modalities, statistics_dtype(dtype))[0]


def check(case, dtype, backend, count, **options):
    found = run(case, *make_volume_inputs(case, dtype, count), backend, **options)
    truth, sizes, dense = truth_of(case, dtype, count)
    assert found.keys() == truth.keys()
    for name, true in truth.items():
        is_embedding = name == "d_queries" or name.startswith("d_modality")
        assert found[name].dtype == (dtype if is_embedding else statistics_dtype(dtype)), name
        value, grad = tolerance_for(dtype, backend)
        # in the dtype of the embeddings, the gradient of an anchor is a sum of two terms, that of the data a projection
        tolerance = 2 * grad if is_embedding else value
        size = sizes.get(name)
        error, allowed = norm_error(found[name], true, size), norm_error(dense[name], true, size)
        assert error <= allowed + tolerance, f"{name}: {error} against {allowed}"
        if is_embedding:
            error, allowed = worst_row_error(found[name], true, size), worst_row_error(dense[name], true, size)
            assert error <= 2 * allowed + 2 * tolerance, f"{name}, row: {error} against {allowed}"


def _combinations():
    for k, (count, case) in enumerate(CASES):
        for place, dtype in enumerate(DTYPES):
            for name in AVAILABLE_BACKENDS:
                too_slow = case.sizes[0] * case.sizes[1] > 1000 or place != k % len(DTYPES)
                if name in SLOW_BACKENDS and too_slow:
                    continue
                yield pytest.param(count, case, dtype, name, id=f"{name}-{str(dtype)[6:]}-K{count}-{case}")


@pytest.mark.own_choice
@pytest.mark.parametrize("count, case, dtype, backend", list(_combinations()))
def test_values_and_gradients(count, case, dtype, backend):
    check(case, dtype, backend, count)


@pytest.mark.parametrize("budget", [0, 100_000, DEFAULT_WORKSPACE_BYTES])
def test_the_workspace_changes_no_bit(budget, backend):
    case = Case("ids_and_diagonal", (230, 210, 20), row_bias=True)
    inputs, modalities = make_volume_inputs(case, torch.float32, 3)
    kept, again = (run(case, inputs, modalities, backend, workspace_bytes=b) for b in (DEFAULT_WORKSPACE_BYTES, budget))
    for name, value in kept.items():
        assert torch.equal(value, again[name]), name


def test_order_of_the_modalities(dtype, backend):
    """A volume has no order: the gradients follow their tensors."""
    case = Case("off_diagonal", (19, 23, 12))
    inputs, modalities = make_volume_inputs(case, dtype, 3)
    found = run(case, inputs, modalities, backend)
    turned = run(case, inputs, [modalities[k] for k in (2, 0, 1)], backend)
    value, grad = tolerance_for(dtype, backend)
    for name in ("row_lse", "col_lse", "row_sum", "d_scale", "d_queries"):
        assert norm_error(turned[name], found[name]) <= 4 * (grad if name == "d_queries" else value), name
    for k, place in enumerate((1, 2, 0)):
        assert norm_error(turned[f"d_modality{place}"], found[f"d_modality{k}"]) <= 4 * grad, k


def test_one_modality_is_a_sine(backend):
    """K = 1, normalised: V = |sin| of the angle."""
    anchor, data = (F.normalize(torch.randn(n, 8, dtype=torch.float64), dim=-1) for n in (6, 5))
    sums = volume_statistics(anchor, [data], scale=1.0, positives=all_pairs(), backend=backend).row_sum
    torch.testing.assert_close(sums, (1 - (anchor @ data.mT) ** 2).sqrt().sum(1), rtol=1e-13, atol=1e-13)


NEARLY_DEPENDENT = (1e-1, 1e-2, 1e-3, 1e-4)


@pytest.mark.parametrize("angle", NEARLY_DEPENDENT)
def test_nearly_dependent_data(angle, backend):
    """Two data vectors at a small angle, in float32: as accurate as at a right angle. Stored determinants are noise."""
    generator = torch.Generator().manual_seed(3)
    anchor, first, away = F.normalize(torch.randn(3, 40, 32, generator=generator, dtype=torch.float64), dim=-1)
    second = F.normalize(first + angle * away, dim=-1)
    leaves = [x.float().requires_grad_() for x in (anchor, first, second)]
    exact = [x.detach().double().requires_grad_() for x in leaves]

    def results(anchor, *modalities, backend):
        # volumes of the size of the angle: scaled back to 1
        found = volume_statistics(anchor, modalities, scale=-1.0 / angle, candidates=off_diagonal(), backend=backend)
        return [found.row_lse, *torch.autograd.grad(found.row_lse.sum(), [anchor, *modalities])]

    truth = results(*exact, backend="reference")
    for value, true in zip(results(*leaves, backend=backend), truth, strict=True):
        rows = (len(true), -1)
        assert worst_row_error(value.view(rows), true.view(rows)) < 2e-5
    dense = (-dense_volumes(leaves[0], leaves[1:]) / angle).masked_fill(torch.eye(40, dtype=torch.bool), -torch.inf)
    if angle <= 1e-3:  # the test is about something
        assert norm_error(dense.logsumexp(1), truth[0]) > 1e-2


def _degenerate():
    x, y = (F.normalize(torch.randn(6, 5, generator=torch.Generator().manual_seed(k)), dim=-1) for k in range(2))
    return {
        "the_same_twice": (x, [y, y]),
        "opposite": (x, [y, -y]),
        "a_zero_vector": (x, [torch.zeros_like(y), y]),
        "anchor_in_the_data": (y, [x, y]),
        "zero_anchor": (torch.zeros_like(x), [y]),
        "more_vectors_than_dimensions": (x[:, :2], [y[:, :2], x[:, 1:3], y[:, 1:3]]),
        "one_dimension": (x[:, :1], [y[:, :1]]),
    }


@pytest.mark.parametrize("name", _degenerate())
@pytest.mark.parametrize("absolute", [False, True])
def test_volume_zero(name, absolute, dtype, backend):
    """Finite values and gradients, and nothing where the tuples themselves are dependent."""
    anchor, modalities = _degenerate()[name]
    leaves = [x.to(dtype).clone().requires_grad_() for x in (anchor, *modalities)]
    statistics = volume_statistics(
        leaves[0], leaves[1:], scale=-5.0, columns=True, positives=diagonal(), absolute=absolute, backend=backend
    )
    gradients = torch.autograd.grad(statistics.row_lse.sum() + statistics.col_sum.sum(), leaves)
    for value in (*statistics, *gradients):
        assert value.isfinite().all()
    if name in ("the_same_twice", "opposite", "a_zero_vector", "more_vectors_than_dimensions"):
        assert torch.equal(statistics.row_sum, torch.zeros_like(statistics.row_sum))
        assert all(torch.equal(gradient, torch.zeros_like(gradient)) for gradient in gradients)
    # V_ii = 0 in truth; an anchor in the span is known to within rounding of |a|^2
    limit = 5.0 * 4 * torch.finfo(statistics_dtype(dtype)).eps ** 0.5
    if name == "anchor_in_the_data" or name == "one_dimension":
        assert statistics.row_sum.abs().max() <= limit


def test_absolute_takes_the_other_sign(backend):
    """Where rounding leaves a determinant below 0, the two modes differ: rho^2 from above and from below."""
    case = Case("everything", (40, 40, 6), rows=True, columns=False)
    _, modalities = make_volume_inputs(case, torch.float32, 2)
    anchor = (0.5 * modalities[0] + 0.25 * modalities[1]).detach()
    clamped, absolute = (
        volume_statistics(anchor, modalities, scale=1.0, positives=diagonal(), absolute=a, backend=backend).row_sum
        for a in (False, True)
    )
    assert (absolute >= clamped).all() and (absolute > clamped).any()
    assert (clamped[absolute > clamped] == 0).all()


def test_a_bad_vector_stays_in_its_column(dtype, backend):
    """NaN in one modality of tuple 4: its column, and the rows that see it."""
    case = Case("everything", (9, 8, 12))
    inputs, modalities = make_volume_inputs(case, dtype, 3)
    modalities[1].data[4, 2] = torch.nan
    found = volume_statistics(
        inputs.queries, modalities, candidates=off_diagonal(4 - 2), rows=True, columns=True, backend=backend
    )
    # row 2 leaves out column 4
    assert found.row_lse.isnan().tolist() == [i != 2 for i in range(9)]
    assert found.col_lse.isnan().tolist() == [j == 4 for j in range(8)]


def test_only_what_is_asked_for(backend):
    """A frozen side gets no gradient, and the others are the same bits."""
    case = Case("off_diagonal", (30, 25, 10))
    inputs, modalities = make_volume_inputs(case, torch.float32, 2)

    def gradients(wanted):
        leaves = [
            x.detach().requires_grad_(x_wanted)
            for x, x_wanted in zip((inputs.queries, *modalities), wanted, strict=True)
        ]
        found = volume_statistics(leaves[0], leaves[1:], scale=-4.0, columns=True, backend=backend)
        (found.row_lse.sum() + found.col_lse.square().sum()).backward()
        return [leaf.grad for leaf in leaves]

    everything = gradients((True, True, True))
    for wanted in ((True, False, False), (False, True, False), (False, False, True), (False, True, True)):
        for grad, full, is_wanted in zip(gradients(wanted), everything, wanted, strict=True):
            assert (grad is None) if not is_wanted else torch.equal(grad, full)


def test_repeatable(dtype, backend):
    case = Case("few_ids", (150, 140, 33), row_bias=True, col_bias=True)
    inputs, modalities = make_volume_inputs(case, dtype, 2)
    first, second = run(case, inputs, modalities, backend), run(case, inputs, modalities, backend)
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_gradcheck(backend):
    """Finite differences in float64, through spans, terms and kernels."""
    leaves = [torch.randn(n, 6, dtype=torch.float64, requires_grad=True) for n in (3, 4, 4)]
    scale = torch.tensor(-0.7, dtype=torch.float64, requires_grad=True)

    def function(anchor, first, second, scale):
        found = volume_statistics(
            anchor, [first, second], scale=scale, positives=diagonal(), columns=True, backend=backend
        )
        return found.row_lse, found.col_lse, found.col_sum

    assert torch.autograd.gradcheck(function, (*leaves, scale), atol=1e-7)

"""Only the gradients asked for, the same ones on every pass, and a clear refusal of a second derivative."""

import itertools

import pytest
import torch

from contrastive_ops import clip_loss, info_nce, nt_xent, similarity_statistics, streamed_row_lse, sup_con
from contrastive_ops.testing import SELF_RELATIONS, Case, make_inputs, make_pairs

BOTH = Case("ids_and_diagonal", (33, 50, 17), row_bias=True, col_bias=True)


def statistics_sum(inputs, case, backend):
    statistics = similarity_statistics(
        inputs.queries,
        inputs.keys,
        scale=inputs.scale,
        row_bias=inputs.row_bias,
        col_bias=inputs.col_bias,
        candidates=inputs.candidates.relation,
        positives=inputs.positives.relation,
        rows=case.rows,
        columns=case.columns,
        backend=backend,
    )
    return sum((value * value.detach().cos()).sum() for value in statistics if value is not None)


@pytest.mark.parametrize("layout", ["every second", "expanded"])
def test_biases_in_any_layout(layout, backend):
    """Vectors that are not contiguous give what their copies give."""
    queries, keys = (x.requires_grad_() for x in make_pairs(40, 24))
    results = []
    for copied in (False, True):
        every_second = torch.linspace(-1, 1, 80)
        biases = [every_second[::2], every_second[1::2]] if layout == "every second" else [torch.ones(1).expand(40)] * 2
        row_bias, col_bias = (bias.clone() if copied else bias for bias in biases)
        found = similarity_statistics(
            queries, keys, scale=5.0, row_bias=row_bias, col_bias=col_bias, columns=True, backend=backend
        )
        total = found.row_lse.sum() + found.col_lse.square().sum()
        results.append([found.row_lse, found.col_lse, *torch.autograd.grad(total, (queries, keys))])
    for value, expected in zip(*results, strict=True):
        torch.testing.assert_close(value, expected, rtol=0, atol=0)


@pytest.mark.parametrize("rows, columns", [(True, True), (True, False), (False, True)])
def test_any_subset_of_gradients_is_the_same(rows, columns, backend):
    """31 subsets of five inputs: each gradient is the one of the full set, the others are not computed."""
    case = Case(BOTH.relation, BOTH.sizes, rows=rows, columns=columns, row_bias=True, col_bias=True)
    names = ("queries", "keys", "scale", "row_bias", "col_bias")
    full = make_inputs(case, torch.float32)
    expected = dict(zip(names, torch.autograd.grad(statistics_sum(full, case, backend), full[:5]), strict=True))
    for size in range(1, 6):
        for subset in itertools.combinations(names, size):
            inputs = make_inputs(case, torch.float32)
            for name in names:
                getattr(inputs, name).requires_grad_(name in subset)
            statistics_sum(inputs, case, backend).backward()
            for name in names:
                grad = getattr(inputs, name).grad
                if name in subset:
                    torch.testing.assert_close(grad, expected[name], rtol=2e-5, atol=2e-5 * expected[name].abs().max())
                else:
                    assert grad is None


@pytest.mark.parametrize("relation", ["self_sup_con", "self_different"])
@pytest.mark.parametrize("bias", [False, True])
def test_any_subset_of_gradients_in_self_similarity(relation, bias, backend):
    case = Case(relation, (33, 33, 17), row_bias=bias, col_bias=bias)
    assert relation in SELF_RELATIONS
    names = ("queries", "scale", "row_bias") if bias else ("queries", "scale")
    full = make_inputs(case, torch.float32)
    leaves = [getattr(full, name) for name in names]
    expected = dict(zip(names, torch.autograd.grad(statistics_sum(full, case, backend), leaves), strict=True))
    for size in range(1, len(names) + 1):
        for subset in itertools.combinations(names, size):
            inputs = make_inputs(case, torch.float32)
            for name in names:
                getattr(inputs, name).requires_grad_(name in subset)
            statistics_sum(inputs, case, backend).backward()
            for name in subset:
                grad = getattr(inputs, name).grad
                torch.testing.assert_close(grad, expected[name], rtol=2e-5, atol=2e-5 * expected[name].abs().max())


def test_gradient_of_one_statistic_alone(backend):
    """Upstream gradients that are absent stand for zero."""
    for name in ("row_lse", "row_sum", "col_lse", "col_sum"):
        grads = []
        for weights in ({name: 1.0}, {"row_lse": 0.0, "row_sum": 0.0, "col_lse": 0.0, "col_sum": 0.0, name: 1.0}):
            inputs = make_inputs(BOTH, torch.float64)
            statistics = similarity_statistics(
                inputs.queries,
                inputs.keys,
                scale=inputs.scale,
                candidates=inputs.candidates.relation,
                positives=inputs.positives.relation,
                columns=True,
                backend=backend,
            )
            total = sum(weight * getattr(statistics, key).sum() for key, weight in weights.items())
            grads.append(torch.autograd.grad(total, (inputs.queries, inputs.keys, inputs.scale)))
        for alone, among_zeros in zip(*grads, strict=True):
            assert alone.norm() > 0
            torch.testing.assert_close(alone, among_zeros, rtol=1e-12, atol=1e-12)


LOSSES = {
    "clip": lambda a, b, backend: clip_loss(a, b, 9.0, backend=backend),
    "info_nce": lambda a, b, backend: info_nce(a, b, backend=backend),
    "info_nce_streamed": lambda a, b, backend: info_nce(a, b, negatives=b.detach(), backend=backend),
    "nt_xent": lambda a, b, backend: nt_xent(a, b, backend=backend),
    "sup_con": lambda a, b, backend: sup_con(torch.cat((a, b)), torch.arange(20).repeat(2), backend=backend),
}


@pytest.mark.parametrize("name", LOSSES)
def test_second_backward_through_one_graph_gives_the_same(name, backend):
    """The state kept from forward is read, not consumed."""
    a, b = (x.requires_grad_() for x in make_pairs(20, 16))
    loss = LOSSES[name](a, b, backend)
    first = torch.autograd.grad(loss, (a, b), retain_graph=True)
    torch.autograd.grad(3 * LOSSES[name](a * 2, b, backend), (a, b))
    second = torch.autograd.grad(loss, (a, b))
    assert all(torch.equal(x, y) for x, y in zip(first, second, strict=True))


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_accumulate(name, backend):
    a, b = (x.requires_grad_() for x in make_pairs(20, 16))
    LOSSES[name](a, b, backend).backward()
    once = a.grad.clone()
    LOSSES[name](a, b, backend).backward()
    assert torch.equal(a.grad, 2 * once)


@pytest.mark.parametrize("name", LOSSES)
def test_double_backward_is_refused(name, backend):
    """Other libraries return a gradient without a graph, silently."""
    a, b = (x.requires_grad_() for x in make_pairs(20, 16))
    (grad,) = torch.autograd.grad(LOSSES[name](a, b, backend), a, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.square().sum().backward()


@pytest.mark.parametrize("name", LOSSES)
def test_without_grad_the_value_is_the_same(name, backend):
    a, b = (x.requires_grad_() for x in make_pairs(20, 16))
    with_grad = LOSSES[name](a, b, backend)
    with torch.no_grad():
        without = LOSSES[name](a, b, backend)
    with torch.inference_mode():
        inference = LOSSES[name](a, b, backend)
    assert with_grad.requires_grad and not without.requires_grad
    assert torch.equal(with_grad, without) and torch.equal(without, inference)


def test_inputs_are_left_alone(backend):
    inputs = make_inputs(BOTH, torch.float32)
    before = [x.detach().clone() for x in inputs[:5]]
    statistics_sum(inputs, BOTH, backend).backward()
    assert all(torch.equal(x, y) for x, y in zip(inputs[:5], before, strict=True))


def test_writing_to_an_input_before_backward_is_detected(backend):
    a, b = (x.requires_grad_() for x in make_pairs(20, 16))
    loss = clip_loss(a, b, 9.0, backend=backend)
    with torch.no_grad():
        a.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_streamed_gradient_only_where_asked(backend):
    queries, keys = make_pairs(20, 16)
    scale = torch.tensor(5.0).requires_grad_()
    streamed_row_lse(queries, [keys], scale=scale, backend=backend).sum().backward()
    both = scale.grad.clone()
    queries.requires_grad_()
    scale.grad = None
    streamed_row_lse(queries, [keys], scale=scale, backend=backend).sum().backward()
    torch.testing.assert_close(scale.grad, both, rtol=1e-5, atol=0)
    assert queries.grad.norm() > 0

"""Every objective equals its dense formula: values and all gradients, every switch, rows that have nothing."""

import inspect

import pytest
import torch
from comparison import check_loss
from objectives import OBJECTIVES

import contrastive_ops
from contrastive_ops.backends.eager import EagerBackend
from contrastive_ops.testing import make_pairs
from contrastive_ops.testing.loss_calls import CALLS

every_objective = pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)


def check(objective, dtype, backend, **reduction):
    options = {"backend": backend} if objective.has_backend else {}

    def ours(leaves):
        return objective.ours(**leaves, **objective.settings, **options, **reduction)

    def dense(leaves):
        losses = objective.dense(**leaves, **objective.settings)
        if reduction.get("reduction", "none") == "none":
            return losses
        if reduction["reduction"] == "sum":
            return losses.sum()
        counted = losses.numel() if objective.counted is None else objective.counted(**leaves).sum().clamp(min=1)
        return losses.sum() / counted

    check_loss(ours, dense, dense, objective.inputs(dtype), dtype, backend, objective.terms)


@every_objective
def test_is_the_formula(objective, backend):
    check(objective, torch.float64, backend, **({"reduction": "none"} if objective.reduces else {}))


@every_objective
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_is_no_less_exact_than_the_formula_in_the_same_dtype(objective, dtype):
    if dtype == torch.bfloat16 and not objective.half:
        pytest.skip("several gradients or steps are rounded to bfloat16 one by one")
    check(objective, dtype, "cpu", **({"reduction": "none"} if objective.reduces else {}))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("name", [name for name, objective in OBJECTIVES.items() if objective.reduces])
def test_reductions(name, reduction):
    check(OBJECTIVES[name], torch.float64, "cpu", reduction=reduction)


# loss classes by their functions
MODULES = {
    module.function: module
    for name, module in vars(contrastive_ops.losses).items()
    if name in contrastive_ops.losses.__all__ and hasattr(module, "function")
}


@pytest.mark.parametrize("name", [name for name, objective in OBJECTIVES.items() if objective.ours in MODULES])
def test_the_module_is_the_function(name):
    """Keyword-only arguments are settings; a parameter among them is registered."""
    objective = OBJECTIVES[name]
    parameters, inputs = inspect.signature(objective.ours).parameters, objective.inputs(torch.float32)
    settings = objective.settings | {
        n: x for n, x in inputs.items() if parameters[n].kind == parameters[n].KEYWORD_ONLY
    }
    if "temperature" in settings:
        settings["temperature"] = torch.nn.Parameter(settings["temperature"].detach())
    module = MODULES[objective.ours](**settings)
    assert [n for n, _ in module.named_parameters()] == [n for n in settings if n == "temperature"]
    value = module(*(x for n, x in inputs.items() if n not in settings))
    assert torch.equal(value, objective.ours(**inputs, **objective.settings))


def test_every_loss_has_a_module_and_an_objective():
    functions = {name for name in contrastive_ops.losses.__all__ if name[0].islower()}
    have_module, have_objective = (
        {name for name in functions if getattr(contrastive_ops, name) in found}
        for found in (MODULES, {objective.ours for objective in OBJECTIVES.values()})
    )
    no_loss = {"shuffled_group_whitening", "gram_negatives"}
    assert functions - have_module == no_loss
    # called within the objectives of others, or with tests of its own (tests/test_gram_loss.py)
    assert functions - have_objective == no_loss | {"matryoshka", "info_nce", "gram_loss"}


@pytest.mark.parametrize("name", [name for name, objective in OBJECTIVES.items() if objective.half])
def test_autocast_is_a_cast_of_the_embeddings(name):
    """Nothing but the embeddings is rounded: the value is that of rounded inputs without autocast."""
    objective = OBJECTIVES[name]
    reduction = {"reduction": "none"} if objective.reduces else {}
    wide, low = objective.inputs(torch.float32), objective.inputs(torch.bfloat16)
    options = objective.settings | ({"backend": "cpu"} if objective.has_backend else {}) | reduction
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = objective.ours(**wide, **options)
    torch.testing.assert_close(value, objective.ours(**low, **options), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("frozen", ["image", "text"])
def test_a_frozen_side_saves_its_product(frozen, monkeypatch):
    """LiT, and the frozen encoder of LLM-VEM: the backend is not asked for the gradient of that side."""
    wanted = []
    backward = EagerBackend.backward

    def spy(self, problem, statistics, upstream, state, asked):
        wanted.append((asked.queries, asked.keys))
        return backward(self, problem, statistics, upstream, state, asked)

    monkeypatch.setattr(EagerBackend, "backward", spy)
    sides = {name: torch.randn(9, 4, requires_grad=name != frozen) for name in ("image", "text")}
    contrastive_ops.clip_loss(*sides.values(), 3.0, backend="eager").backward()
    assert wanted == [(frozen != "image", frozen != "text")]


@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize("name", CALLS)
def test_no_pairs_and_one_pair_give_finite_numbers(name, n):
    """Every loss as the benchmarks call it; nothing at all gives 0."""
    x, y = (value.requires_grad_() for value in make_pairs(n, 16))
    value = CALLS[name](x, y, backend="cpu")
    assert value.isfinite() and (n > 0 or value == 0)
    for grad in torch.autograd.grad(value, (x, y), allow_unused=True, materialize_grads=True):
        assert grad.isfinite().all()

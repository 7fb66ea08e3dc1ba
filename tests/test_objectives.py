"""Every objective equals its dense formula: values and all gradients, every switch, rows that have nothing."""

import pytest
import torch
from comparison import check_loss
from objectives import OBJECTIVES

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

"""Losses over several gloo processes: value and gradients of one process on the concatenated batch."""

import pytest
import torch
from distributed_cases import cases, run
from distributed_losses import expected, make_leaves

WORLDS = (1, 2, 3, 4)
ALL = [(world, case) for world in WORLDS for case in cases(world)]


def assembled(case, name, of_ranks):
    """What a trainer's reduction makes of the gradients of all ranks."""
    size = len(of_ranks)
    parts = [found[name] for found in of_ranks]
    # a parameter behind a line's features gets its gradient from one rank, and zeros from the others
    total = torch.stack(parts).sum(0) if name == "scale" else torch.cat(parts)
    return total / size if case.grad_reduction == "mean" else total


def relative_error(got, truth):
    return float(
        (got.detach().double() - truth.detach().double()).norm() / truth.detach().double().norm().clamp(min=1e-30)
    )


@pytest.mark.parametrize("world, case", ALL, ids=[f"{world}-{case}" for world, case in ALL])
def test_equals_one_process(world, case, ranks_of):
    found = [of_rank[str(case)] for of_rank in ranks_of(run, world)]
    for first, second in found:
        for name in first:
            assert torch.equal(first[name], second[name]), f"{name} differs from run to run"
    of_ranks = [first for first, _ in found]
    assert all(torch.equal(of_rank["value"], of_ranks[0]["value"]) for of_rank in of_ranks)
    leaves = make_leaves(world, case.dtype)
    value = expected(case.loss, rounded(leaves, case), world, case.groups(world))
    assert of_ranks[0]["value"].dtype == value.dtype
    tolerance = {torch.float64: 1e-13, torch.float32: 1e-6, torch.bfloat16: 2.0**-8}[case.dtype]
    assert relative_error(of_ranks[0]["value"], value) <= min(tolerance, 1e-6)
    wanted = {name: leaf for name, leaf in leaves.items() if leaf.requires_grad}
    grads = torch.autograd.grad(value, list(wanted.values()), allow_unused=True, materialize_grads=True)
    for (name, leaf), truth in zip(wanted.items(), grads, strict=True):
        got = assembled(case, name, of_ranks)
        assert got.dtype == leaf.dtype and got.shape == leaf.shape
        if truth.norm() == 0:
            assert got.norm() == 0, name
        else:
            assert relative_error(got, truth) <= tolerance, (name, relative_error(got, truth))


def rounded(leaves, case):
    """The side that travels as it arrives."""
    if case.wire_dtype is None:
        return leaves
    rows_travel = case.strategy == "shard" or "frozen_images" in case.loss
    name = "images" if rows_travel else "texts"
    leaf = leaves[name]
    return leaves | {name: leaf + (leaf.to(case.wire_dtype).to(leaf.dtype) - leaf).detach()}

"""Losses over several gloo processes: value and gradients of one process on the concatenated batch."""

import pytest
import torch
import torch.distributed as dist
from distributed_cases import STRATEGIES, SUBGROUP, Case, cases, run, value_and_gradients
from distributed_losses import expected, lines_of, make_leaves

WORLDS = (2, 3, 4)
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


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_members_of_a_group(strategy, ranks_of):
    """The others do not take part, and ranks are numbered as in the group."""
    found = [of_rank[f"subgroup-{strategy}"] for of_rank in ranks_of(run, 4) if f"subgroup-{strategy}" in of_rank]
    assert len(found) == len(SUBGROUP)
    leaves = make_leaves(4)
    value = expected("clip_smoothed", leaves, 4, [SUBGROUP])
    names = ("images", "texts", "scale")
    grads = dict(zip(names, torch.autograd.grad(value, [leaves[name] for name in names]), strict=True))
    for name, truth in lines_of(grads, 4, SUBGROUP).items():
        assert relative_error(assembled(Case("clip_smoothed", strategy), name, found), truth) <= 1e-6
    assert all(relative_error(of_rank["value"], value) <= 1e-6 for of_rank in found)


def test_alone():
    """A world of one is the loss of one process."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        for case in cases(1):
            found = value_and_gradients(case, 0, 1)
            leaves = make_leaves(1)
            value = expected(case.loss, leaves, 1, [[0]])
            assert relative_error(found["value"], value) <= 1e-6
            wanted = {name: leaf for name, leaf in leaves.items() if leaf.requires_grad}
            grads = torch.autograd.grad(value, list(wanted.values()), allow_unused=True, materialize_grads=True)
            for name, truth in zip(wanted, grads, strict=True):
                assert relative_error(found[name], truth) <= 1e-6, (case, name)
    finally:
        dist.destroy_process_group()


def rounded(leaves, case):
    """The side that travels as it arrives."""
    if case.wire_dtype is None:
        return leaves
    rows_travel = case.strategy == "shard" or "frozen_images" in case.loss
    name = "images" if rows_travel else "texts"
    leaf = leaves[name]
    return leaves | {name: leaf + (leaf.to(case.wire_dtype).to(leaf.dtype) - leaf).detach()}

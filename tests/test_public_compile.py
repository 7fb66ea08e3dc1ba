"""Every public function under torch.compile: one graph, the numbers of eager mode, with gradients and without.

"aot_eager" traces through our fakes as inductor does, in a tenth of its time; without gradients Dynamo does it all.
tests/test_compile.py asks about changing shapes and backends. Losses over ranks break the graph many times, and take a
compiler ten seconds: docs/distributed.md.
"""

import pytest
import torch
from pair_calls import LOSSES, PRIMITIVES, pairs
from torch.autograd import forward_ad

ONE_PROCESS = LOSSES | PRIMITIVES


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def value_of(function, *inputs):
    torch.manual_seed(0)
    return function(*inputs)


@pytest.mark.parametrize("name", ONE_PROCESS)
def test_with_gradients(name):
    compiled = torch.compile(ONE_PROCESS[name], fullgraph=True, backend="aot_eager")
    leaves = [value.requires_grad_() for value in pairs()]
    found, expected = value_of(compiled, *leaves), value_of(ONE_PROCESS[name], *leaves)
    torch.testing.assert_close(found, expected)
    of_both = [torch.autograd.grad(value, leaves, allow_unused=True) for value in (found, expected)]
    torch.testing.assert_close(*of_both)


@pytest.mark.parametrize("name", ONE_PROCESS)
def test_without_gradients(name):
    compiled = torch.compile(ONE_PROCESS[name], fullgraph=True, backend="eager")
    torch.testing.assert_close(value_of(compiled, *pairs()), value_of(ONE_PROCESS[name], *pairs()))


def dual(loss, x, y):
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(loss(forward_ad.make_dual(x, y), y)).tangent


TRANSFORMED = {
    "jvp": lambda loss, x, y: torch.func.jvp(lambda x: loss(x, y), (x,), (y,))[1],
    "vmap": lambda loss, x, y: torch.func.vmap(lambda x: loss(x, y))(torch.stack((x, y))).sum(),
    "dual": dual,
}
REVERSED = {
    "grad": lambda loss, x, y: torch.func.grad(lambda x: loss(x, y).sum())(x),
    "vjp": lambda loss, x, y: torch.func.vjp(lambda x: loss(x, y).sum(), x)[1](torch.ones(()))[0],
}


@pytest.mark.parametrize("name", ["clip_loss", "gram_volume"])
@pytest.mark.parametrize("transform", TRANSFORMED)
def test_transforms_inside(transform, name):
    """They break the graph, and are refused as without a compiler; traced into it they would lose their tangents."""
    compiled = torch.compile(lambda x, y: TRANSFORMED[transform](ONE_PROCESS[name], x, y), backend="eager")
    with pytest.raises(RuntimeError, match=r"contrastive_ops .* got (forward mode|vmap)"):
        compiled(*pairs())


@pytest.mark.parametrize("name", ["clip_loss", "sup_con", "streamed_row_lse", "gram_volume"])
@pytest.mark.parametrize("transform", REVERSED)
def test_reverse_mode_inside(transform, name):
    """It breaks the graph; the levels of torch.func are not there while Dynamo traces, so nothing below is traced."""
    if transform == "vjp" and torch.__version__ < (2, 12):
        pytest.skip("a break inside makes it 0 in this torch, also without contrastive_ops")
    compiled = torch.compile(lambda x, y: REVERSED[transform](ONE_PROCESS[name], x, y), backend="aot_eager")
    found, expected = compiled(*pairs()), REVERSED[transform](ONE_PROCESS[name], *pairs())
    assert expected.any()
    torch.testing.assert_close(found, expected)

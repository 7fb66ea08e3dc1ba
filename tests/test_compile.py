"""torch.compile(fullgraph=True, dynamic=True) of every loss: one graph for changing shapes, eager numbers.

"aot_eager" traces forward and backward through our fakes, as inductor does, in a tenth of its time; one loss goes
through inductor itself. The reference backend is left out: it is the same operator, and slow to trace.
"""

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from contrastive_ops import clip_loss, gram_loss, info_nce, nt_xent, similarity_statistics, sup_con
from contrastive_ops import different as different_ids
from contrastive_ops.testing import make_pairs

LOSSES = {
    "clip": lambda a, b, t, backend: clip_loss(a, b, 1 / t, backend=backend),
    "clip_smoothed": lambda a, b, t, backend: clip_loss(a, b, 1 / t, label_smoothing=0.1, backend=backend),
    "clip_float": lambda a, b, t, backend: clip_loss(a, b, 9.0, reduction="none", backend=backend).sum() * t,
    "gram": lambda a, b, t, backend: gram_loss(a, [b, a * b], temperature=t, label_smoothing=0.1, backend=backend),
    "info_nce": lambda a, b, t, backend: info_nce(a, b, temperature=t, backend=backend),
    "info_nce_bank": lambda a, b, t, backend: info_nce(a, b, temperature=t, negatives=b.detach(), backend=backend),
    "info_nce_grad_bank": lambda a, b, t, backend: info_nce(a, b, temperature=t, negatives=b * 0.5, backend=backend),
    "info_nce_private": lambda a, b, t, backend: info_nce(
        a, b, temperature=t, negatives=torch.stack((b, b * 0.5), 1), backend=backend
    ),
    "nt_xent": lambda a, b, t, backend: nt_xent(a, b, temperature=t, backend=backend),
    "sup_con": lambda a, b, t, backend: sup_con(
        torch.cat((a, b)), torch.arange(len(a)).repeat(2) // 2, temperature=t, backend=backend
    ),
    "statistics": lambda a, b, t, backend: sum(
        similarity_statistics(
            a,
            b,
            scale=1 / t,
            row_bias=a.sum(1),
            candidates=different_ids(torch.arange(len(a)) // 3, torch.arange(len(b)) // 4),
            columns=True,
            backend=backend,
        )[0:3:2]
    ).sum(),
}
SIZES = ((37, 24), (90, 24), (300, 40))


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def leaves_for(n, d):
    return [x.requires_grad_() for x in (*make_pairs(n, d), torch.tensor(0.2))]


def check(function, compiled, leaves):
    expected, found = function(*leaves), compiled(*leaves)
    torch.testing.assert_close(found, expected, rtol=2e-6, atol=2e-6)
    for ours, theirs in zip(torch.autograd.grad(found, leaves), torch.autograd.grad(expected, leaves), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("backend", ["cpu", "eager"])
@pytest.mark.parametrize("name", LOSSES)
def test_one_graph_for_all_shapes(name, backend):
    counter = CompileCounterWithBackend("aot_eager")

    def function(a, b, t):
        return LOSSES[name](a, b, t, backend)

    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend=counter)
    check(function, compiled, leaves_for(*SIZES[0]))
    graphs = counter.frame_count
    for n, d in SIZES[1:]:
        check(function, compiled, leaves_for(n, d))
    assert counter.frame_count == graphs


def test_inductor():
    def function(a, b, t):
        return clip_loss(a, b, 1 / t, label_smoothing=0.1) + nt_xent(a, b, temperature=t)

    # cached code has the sizes of the operators as they were then
    compiled = torch.compile(function, fullgraph=True, dynamic=True, options={"fx_graph_cache": False})
    for n, d in SIZES:
        check(function, compiled, leaves_for(n, d))


def test_compiled_under_no_grad():
    compiled = torch.compile(lambda a, b: clip_loss(a, b, 9.0), fullgraph=True, dynamic=True, backend="aot_eager")
    a, b = make_pairs(50, 24)
    with torch.no_grad():
        torch.testing.assert_close(compiled(a, b), clip_loss(a, b, 9.0), rtol=1e-6, atol=0)


def test_compiled_under_autocast():
    compiled = torch.compile(lambda a, b: clip_loss(a, b, 9.0), fullgraph=True, dynamic=True, backend="aot_eager")
    a, b = (x.requires_grad_() for x in make_pairs(50, 24))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, expected = compiled(a, b), clip_loss(a, b, 9.0)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(*(torch.autograd.grad(x, a)[0] for x in (found, expected)), rtol=1e-5, atol=1e-6)

"""Numerical differentiation in float64 agrees with every analytic gradient.

Each check runs the forward pass a hundred times: Triton's interpreter, where one takes a tenth of a second, takes part
in one of them. Its gradients meet the analytic ones of float64 in every other test.
"""

import pytest
import torch
from conftest import without_gpu_kernels
from torch.autograd import gradcheck

from contrastive_ops import clip_loss, info_nce, merge_lse, nt_xent, similarity_statistics, streamed_row_lse, sup_con
from contrastive_ops.testing import RELATIONS, SELF_RELATIONS, Case, make_inputs, make_pairs

DOUBLE = torch.float64


def present(statistics):
    """The finite entries; the difference of two infinities has no numerical gradient."""
    values = [value for value in statistics if value is not None]
    return tuple(value[value.isfinite()] for value in values)


@without_gpu_kernels
@pytest.mark.parametrize("batch", [0, 2])
@pytest.mark.parametrize("relation", [*RELATIONS, *SELF_RELATIONS])
def test_statistics(relation, batch, backend):
    sizes = (5, 5, 3) if relation in SELF_RELATIONS else (4, 6, 3)
    sizes = tuple(size - 1 for size in sizes) if batch else sizes  # every number is changed twice
    case = Case(relation, sizes, batch=batch, row_bias=True, col_bias=True, scale=1.75)
    inputs = make_inputs(case, DOUBLE)
    leaves = inputs.leaves()

    def function(*tensors):
        named = dict(zip(leaves, tensors, strict=True))
        queries, row_bias = named["queries"], named["row_bias"]
        statistics = similarity_statistics(
            queries,
            named.get("keys", queries),
            scale=named["scale"],
            row_bias=row_bias,
            col_bias=named.get("col_bias", row_bias),
            candidates=inputs.candidates.relation,
            positives=None if inputs.positives is None else inputs.positives.relation,
            columns=True,
            backend=backend,
        )
        return present(statistics)

    assert gradcheck(function, tuple(leaves.values()))


def leaves(*values):
    return tuple(value.detach().to(DOUBLE).requires_grad_() for value in values)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_clip_loss(label_smoothing, backend):
    inputs = leaves(*make_pairs(5, 3), torch.tensor(4.0))
    options = {"label_smoothing": label_smoothing, "reduction": "none", "backend": backend}
    assert gradcheck(lambda a, b, scale: clip_loss(a, b, scale, **options), inputs)


@without_gpu_kernels
@pytest.mark.parametrize("shape", [None, (4, 3), (5, 4, 3)], ids=str)
def test_info_nce(shape, backend):
    inputs = leaves(*make_pairs(5, 3), torch.tensor(0.25))
    if shape is not None:
        inputs += leaves(torch.randn(shape))

    def function(a, b, temperature, negatives=None):
        return info_nce(a, b, temperature=temperature, negatives=negatives, reduction="none", backend=backend)

    assert gradcheck(function, inputs)


@without_gpu_kernels
def test_nt_xent(backend):
    inputs = leaves(*make_pairs(4, 3), torch.tensor(0.25))
    assert gradcheck(lambda a, b, t: nt_xent(a, b, temperature=t, reduction="none", backend=backend), inputs)


@without_gpu_kernels
def test_sup_con(backend):
    inputs, labels = leaves(make_pairs(6, 3)[0], torch.tensor(0.25)), torch.tensor([0, 1, 0, 2, 1, 0])
    assert gradcheck(lambda z, t: sup_con(z, labels, temperature=t, reduction="none", backend=backend), inputs)


@without_gpu_kernels
def test_streamed_row_lse(backend):
    inputs, bank = leaves(make_pairs(5, 3)[0], torch.tensor(4.0)), torch.randn(9, 3, dtype=DOUBLE)
    assert gradcheck(lambda q, s: streamed_row_lse(q, bank.split(4), scale=s, backend=backend), inputs)


def test_merge_lse():
    assert gradcheck(merge_lse, leaves(torch.randn(5), torch.randn(5), torch.randn(5)))

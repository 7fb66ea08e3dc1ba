"""What is special about the Triton backend, in its interpreter: macro-blocks, stripes, descriptors, kept products.

Its values and gradients in general are those of the shared tests, which run it beside the other backends.
"""

import subprocess
import sys
import textwrap

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from triton_problems import TILE, cut_macro_blocks

from contrastive_ops import (
    clip_loss,
    info_nce,
    nt_xent,
    off_diagonal,
    similarity_statistics,
    sup_con,
)
from contrastive_ops.testing import (
    DTYPES,
    LAYOUTS,
    RELATIONS,
    SELF_RELATIONS,
    Case,
    make_pairs,
    norm_error,
    tolerance_for,
)
from contrastive_ops.testing.verdicts import check_case, solve

pytest.importorskip("triton", reason="triton exists for Linux only")

from contrastive_ops.backends.triton import arguments, kernels, launch, tiles
from contrastive_ops.triton_kernels import macro_bwd, reduce_fwd

# --- shapes around the edges of tiles, stripes and macro-blocks ---------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "case",
    [
        Case("off_diagonal", (TILE - 1, TILE + 1, 16)),
        Case("off_diagonal", (TILE, 2 * TILE, 17), row_bias=True),
        Case("few_ids", (4 * TILE + 1, 3 * TILE, 33), rows=False, col_bias=True),  # two tiles in a stripe
        Case("offset_right", (7 * TILE + 5, 1, 128)),  # three tiles in a stripe, one column
        Case("self_sup_con", (4 * TILE + 3, 4 * TILE + 3, 24), row_bias=True, col_bias=True),
        Case("self_everything", (7 * TILE, 7 * TILE, 8)),
    ],
    ids=str,
)
def test_edges(case, dtype):
    check_case(case, dtype, "triton")


@pytest.fixture
def small_macro_blocks(monkeypatch):
    """Blocks of two tiles in float32: several in both directions, the last ones cut off."""
    cut_macro_blocks(monkeypatch, TILE * 2 * TILE * 4)


TWO_LEVELS = [
    Case("off_diagonal", (130, 300, 150), row_bias=True, col_bias=True),
    Case("few_ids", (100, 70, 140), batch=2, columns=False, col_bias=True),
    Case("ids_per_batch", (90, 130, 200), batch=3, layout="sliced", rows=False),
    Case("self_sup_con", (150, 150, 140), row_bias=True, col_bias=True),
    Case("self_different", (200, 200, 129), batch=2),
]


@pytest.mark.parametrize(
    "case, dtype",
    # one of full and one of half precision: what a dtype adds, it adds to every case
    [(case, dtype) for k, case in enumerate(TWO_LEVELS) for dtype in DTYPES[k % 2 :: 2]],
    ids=str,
)
def test_two_levels(case, dtype, small_macro_blocks):
    assert not kernels.TritonKernels(arguments.Target(tiles.INTERPRETER, "any", "ieee")).owns_rows(case.sizes[2])
    check_case(case, dtype, "triton")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(
    "case",
    [
        Case("off_diagonal", (70, 200, 16), row_bias=True, col_bias=True),
        Case("few_ids", (130, 90, 40), batch=2, columns=False),
        Case("self_sup_con", (150, 150, 24)),
        Case("ids_per_batch", (90, 130, 136), batch=3),  # two levels
        Case("off_diagonal", (70, 200, 17)),  # lines that do not start at multiples of 16 bytes
        Case("off_diagonal", (70, 200, 16), layout="expanded"),  # one line used for all
        Case("few_ids", (40, 70, 64), batch=3, layout="shared_batch"),  # and one entry
        Case("few_ids", (40, 70, 64), batch=3, layout="interleaved_batch"),
    ],
    ids=str,
)
def test_tensor_descriptors(case, dtype, monkeypatch):
    """What GPUs with a copy engine load by descriptors."""
    made = []
    descriptor = arguments.TensorDescriptor
    monkeypatch.setattr(arguments, "has_descriptors", lambda arch, precision: True)
    monkeypatch.setattr(arguments, "TensorDescriptor", lambda *given: made.append(given) or descriptor(*given))
    check_case(case, dtype, "triton")
    assert bool(made) == (case.sizes[2] % 8 == 0 and case.layout not in ("expanded", "shared_batch"))


@settings(max_examples=25)
@given(
    relation=st.sampled_from([*RELATIONS, *SELF_RELATIONS]),
    m=st.integers(0, 150),
    n=st.integers(0, 150),
    d=st.integers(1, 70),
    layout=st.sampled_from(list(LAYOUTS)),
    batch=st.sampled_from([0, 0, 1, 2]),
    biases=st.tuples(st.booleans(), st.booleans()),
    directions=st.sampled_from([(True, True), (True, False), (False, True)]),
    dtype=st.sampled_from(DTYPES),
)
def test_any_problem(relation, m, n, d, layout, batch, biases, directions, dtype):
    sizes = (n if relation in SELF_RELATIONS else m, n, d)
    check_case(Case(relation, sizes, layout, batch, *directions, *biases, scale=7.5), dtype, "triton")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("relation", ["off_diagonal", "few_ids", "self_sup_con"])
def test_run_twice(relation, dtype):
    case = Case(relation, (200, 200, 40), row_bias=True, col_bias=True)
    first, second = solve(case, dtype, "triton"), solve(case, dtype, "triton")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_tiny_upstream_gradients_survive_float16():
    """dS of 1e-9 is far below the range of float16, but D = 20 keys of size 100 bring the gradient back into it."""
    a, b = make_pairs(100, 20, torch.float16)
    b = 100 * b
    grads = []
    for name, dtype in (("triton", torch.float16), ("reference", torch.float64)):
        queries = a.to(dtype).requires_grad_()
        lse = similarity_statistics(queries, b.to(dtype), scale=0.05, backend=name).row_lse
        (grad,) = torch.autograd.grad(lse.sum() * 2.0**-22, queries)
        grads.append(grad.double())
    ours, true = grads
    assert true.abs().max() < 2e-6  # subnormal numbers, 2^-24 apart
    assert (ours - true).abs().max() <= 2.0**-25 + 2.0**-10 * true.abs().max()


# --- through torch.compile ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "loss",
    [
        lambda a, b, scale: clip_loss(a, b, scale, label_smoothing=0.1, backend="triton"),
        lambda a, b, scale: info_nce(a, b, temperature=1 / scale, reduction="none", backend="triton").mean(),
        lambda a, b, scale: nt_xent(a, b, temperature=1 / scale, backend="triton"),
        lambda a, b, scale: sup_con(a, torch.arange(len(a)) % 5, temperature=1 / scale, backend="triton"),
    ],
    ids=["clip", "info_nce", "nt_xent", "sup_con"],
)
def test_one_graph_for_every_shape(loss):
    compiled = torch.compile(loss, fullgraph=True, dynamic=True, backend="aot_eager")
    for n in (40, 70):
        leaves = [x.requires_grad_() for x in (*make_pairs(n, 12), torch.tensor(9.0))]
        ours, plain = compiled(*leaves), loss(*leaves)
        torch.testing.assert_close(ours, plain, rtol=1e-6, atol=0)
        grads = zip(
            *(torch.autograd.grad(x, leaves, allow_unused=True, materialize_grads=True) for x in (ours, plain)),
            strict=True,
        )
        for x, y in grads:
            torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-7)


# --- products kept for the gradient pass ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("spare", [-1, 0], ids=["one byte short", "fits"])
def test_kept_products(spare, dtype, small_macro_blocks, monkeypatch):
    """The same gradients whether the products fit the budget or not; no product twice where they do."""
    m, n, d = 300, 200, 150
    launched = []
    run = launch.Launch.run
    monkeypatch.setattr(launch.Launch, "run", lambda one: launched.append(one) or run(one))
    results = {}
    for backend in ("reference", "triton"):
        queries, keys = (x.requires_grad_() for x in make_pairs(m, d, dtype))
        keys = keys.detach()[:n].requires_grad_()
        budget = m * n * (8 if dtype == torch.float64 else 4) + spare
        statistics = similarity_statistics(
            queries, keys, scale=20.0, columns=True, workspace_bytes=budget, backend=backend
        )
        (statistics.row_lse.sum() + statistics.col_lse.square().sum()).backward()
        results[backend] = (queries.grad, keys.grad)
    for found, expected in zip(results["triton"], results["reference"], strict=True):
        assert norm_error(found, expected) < tolerance_for(dtype, "triton").grad
    blocks = [x.arguments for x in launched if x.kernel is macro_bwd.macro_gradient_kernel]
    assert {x["kept"] is None for x in blocks} == {spare < 0}


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_one_direction_computes_every_score_once(reduction, monkeypatch):
    """Panels of rows whose products are kept: the gradient follows without computing a score again."""
    monkeypatch.setattr("contrastive_ops.backends.panels.PANEL_ROWS", 64)
    launched = []
    run = launch.Launch.run
    monkeypatch.setattr(launch.Launch, "run", lambda one: launched.append(one) or run(one))
    results = {}
    for backend in ("reference", "triton"):
        queries, keys = (x.requires_grad_() for x in make_pairs(200, 150, torch.float32))
        loss = info_nce(queries, keys, reduction=reduction, workspace_bytes=130 * 200 * 4, backend=backend)
        loss.backward()
        results[backend] = (loss.detach(), queries.grad, keys.grad)
    for found, expected in zip(results["triton"], results["reference"], strict=True):
        assert norm_error(found, expected) < tolerance_for(torch.float32, "triton").grad
    score_passes = [x for x in launched if x.kernel is reduce_fwd.reduce_fwd_kernel]
    assert [x.arguments["num_rows"] for x in score_passes] == [128, 72]
    blocks = [x for x in launched if x.kernel is macro_bwd.macro_gradient_kernel]
    assert len(blocks) == 2 and all(x.arguments["kept"] is not None for x in blocks)


# --- reasons ------------------------------------------------------------------------------------------------------


def test_it_explains_itself_without_a_gpu(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET")
    a, b = make_pairs(4, 3)
    with pytest.raises(ValueError, match=r"'triton' cannot solve .*: tensors must be on a CUDA or HIP device, got cpu"):
        clip_loss(a, b, 1.0, backend="triton")


def test_triton_is_imported_by_its_first_use_only():
    script = """
        import sys, torch, contrastive_ops
        x = torch.eye(3)
        contrastive_ops.clip_loss(x, x.clone(), 2.0)
        before = "triton" in sys.modules
        contrastive_ops.clip_loss(x, x.clone(), 2.0, backend="triton")
        print(before, "triton" in sys.modules)
    """
    process = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
    assert process.stdout.split() == ["False", "True"], process.stderr


def test_a_diagonal_beyond_32_bits_is_outside():
    """off_diagonal() with an offset beyond 32 bits is every pair."""
    a, b = make_pairs(70, 5)
    far = similarity_statistics(a, b, candidates=off_diagonal(2**40), columns=True, backend="triton")
    every = similarity_statistics(a, b, columns=True, backend="triton")
    torch.testing.assert_close(far.row_lse, every.row_lse, rtol=0, atol=0)
    torch.testing.assert_close(far.col_lse, every.col_lse, rtol=0, atol=0)

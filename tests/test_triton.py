"""What is special about the Triton backend, in its interpreter: macro-blocks, stripes, 64-bit offsets, faults caught.

Its values and gradients in general are those of the shared tests, which run it beside the other backends.
"""

import importlib.util
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_volume_statistics import check as check_volumes

from contrastive_ops import (
    all_pairs,
    clip_loss,
    info_nce,
    nt_xent,
    off_diagonal,
    similarity_statistics,
    sup_con,
    volume_statistics,
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

from contrastive_ops.backends.gpu import backend as gpu_backend
from contrastive_ops.backends.gpu import macro
from contrastive_ops.backends.gpu.gpu_size import GpuSize
from contrastive_ops.backends.triton import arguments, kernels, launch, tiles
from contrastive_ops.triton_kernels import gradient_bwd, macro_bwd, score, statistics_fwd, tile, volume

TILE = 64  # of the interpreter's rows in the table

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
    monkeypatch.setattr(macro, "gpu_size", lambda device: GpuSize(4, TILE * 2 * TILE * 4))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "case",
    [
        Case("off_diagonal", (130, 300, 150), row_bias=True, col_bias=True),
        Case("few_ids", (100, 70, 140), batch=2, columns=False, col_bias=True),
        Case("ids_per_batch", (90, 130, 200), batch=3, layout="sliced", rows=False),
        Case("self_sup_con", (150, 150, 140), row_bias=True, col_bias=True),
        Case("self_different", (200, 200, 129), batch=2),
    ],
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


# --- volumes: their values and gradients in one macro-block are those of tests/test_volume_statistics.py --------------


@pytest.fixture
def small_volume_blocks(monkeypatch):
    """Called with the banks and their dtype: blocks of at most four tiles."""

    def cut(banks, dtype):
        monkeypatch.setattr(macro, "gpu_size", lambda device: GpuSize(4, 2 * TILE * 2 * TILE * dtype.itemsize * banks))

    return cut


@pytest.mark.parametrize(
    "banks, dtype, case",
    [
        (1, torch.bfloat16, Case("off_diagonal", (70, 150, 20), row_bias=True, col_bias=True, scale=-3.5)),
        (2, torch.float32, Case("few_ids", (70, 66, 12), batch=2, columns=False, col_bias=True, scale=-3.5)),
        (2, torch.float16, Case("ids_and_diagonal", (70, 140, 70), row_bias=True, scale=-3.5)),
        (3, torch.float64, Case("offset_left", (66, 130, 16), layout="sliced", rows=False, row_bias=True, scale=-3.5)),
        (7, torch.float32, Case("off_diagonal", (66, 65, 18), col_bias=True, scale=-3.5)),
    ],
    ids=str,
)
def test_volumes_in_macro_blocks(banks, dtype, case, small_volume_blocks):
    small_volume_blocks(banks, dtype)
    check_volumes(case, dtype, "triton", banks)


def test_volumes_by_tensor_descriptors(monkeypatch):
    made = []
    descriptor = arguments.TensorDescriptor
    monkeypatch.setattr(arguments, "has_descriptors", lambda arch, precision: True)
    monkeypatch.setattr(arguments, "TensorDescriptor", lambda *given: made.append(given) or descriptor(*given))
    check_volumes(Case("off_diagonal", (40, 70, 16), scale=-3.5), torch.bfloat16, "triton", 2)
    assert len(made) == 2 * 2 + 2 * 2 * 2  # rows and banks in both passes, two operands of four products


def gradients_near_the_span():
    """Anchors 2^-9 away from a line, in float16: weights 512 times dS. Every number here is exact in float16."""
    leaves = [torch.zeros(3, 8, dtype=torch.float16) for _ in range(2)]
    leaves[0][:, 0] = leaves[1][:, 0] = 1.0
    leaves[0][range(3), range(2, 5)] = 2.0**-9
    found = []
    for backend, dtype in (("triton", torch.float16), ("reference", torch.float64)):
        anchor, data = (leaf.to(dtype).requires_grad_() for leaf in leaves)
        sums = volume_statistics(anchor, [data], scale=1.0, positives=all_pairs(), backend=backend).row_sum
        found.append(torch.autograd.grad(sums.sum(), [anchor, data]))
    return found


def test_float16_weights_near_the_span(monkeypatch):
    """They stay in the range of float16; planted fault: without the bound of the weights they do not."""
    for ours, true in zip(*gradients_near_the_span(), strict=True):
        torch.testing.assert_close(ours.double(), true, rtol=1e-3, atol=1e-4)
    monkeypatch.setattr(gpu_backend, "_largest_weight", lambda problem: torch.tensor(1.0))
    ours, true = (d_anchor for d_anchor, _ in gradients_near_the_span())
    assert ours.isfinite().all()  # cut off at the end of the range
    assert norm_error(ours, true) > 1.0


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
    monkeypatch.setattr("contrastive_ops.ops.row_cross_entropy.PANEL_ROWS", 64)
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
    score_passes = [x for x in launched if x.kernel is statistics_fwd.statistics_fwd_kernel]
    assert [x.arguments["num_rows"] for x in score_passes] == [128, 72]
    blocks = [x for x in launched if x.kernel is macro_bwd.macro_gradient_kernel]
    assert len(blocks) == 2 and all(x.arguments["kept"] is not None for x in blocks)


# --- compiled once for all sizes ----------------------------------------------------------------------------------

ALL_SIZES = """
    import sys
    sys.path.insert(0, {tests!r})
    import torch, triton_compiled
    from triton.runtime import driver
    from contrastive_ops.backends.gpu.kernels import GradientSum, LineSums, MacroPass, Partials, plan_stripes
    from contrastive_ops.backends.gpu.view import Lines, view_columns, view_rows
    from contrastive_ops.backends.triton import kernels, launch, macro_pass
    from contrastive_ops.backends.triton.arguments import Target
    from contrastive_ops.backends.gpu.macro import ALIGNMENT, macro_places
    from contrastive_ops.build_problem import build_problem
    from contrastive_ops.relations import diagonal, off_diagonal
    from contrastive_ops.scores import Score, ScoreKind

    driver.set_active(triton_compiled.FakeDriver(triton_compiled.ARCHITECTURES["sm_80"].target))
    target = Target("sm_80", "half", "ieee")
    launches = []
    launch.Launch.run = lambda one: launches.append(one)
    half, single = dict(dtype=torch.bfloat16, device="meta"), dict(dtype=torch.float32, device="meta")
    for m, n in ((4096, 8192), (1, 1), (1, 4097), (333, 16), (70000, 5)):
        q, k, scale = torch.empty(1, m, 48, **half), torch.empty(1, n, 48, **half), torch.empty((), **single)
        row, col = torch.empty(1, m, **single), torch.empty(1, n, **single)
        problem = build_problem(q, k, scale=scale, row_bias=None, col_bias=None, candidates=off_diagonal(),
                                positives=diagonal(), rows=True, columns=True, workspace_bytes=0)
        views = [f(problem, Lines(None, row, row, row), Lines(None, col, col, col)) for f in (view_rows, view_columns)]
        score = Score(ScoreKind.VOLUME, row, col, torch.empty(1, 6, n, **single))
        volumes = problem._replace(keys=torch.empty(1, n, 3, 48, **half).transpose(1, 2), score=score)
        views.append(view_rows(volumes, Lines(None, row, row, row), Lines(None, col, col, col)))
        for view in views[::2]:
            stripes = plan_stripes(view, kernels.TritonKernels(target), False)
            rows, cols = (Partials(*(torch.empty(slots, 1, size, **single) for _ in range(3))) for slots, size in
                          ((stripes.num_col_stripes, m), (stripes.num_row_stripes, n)))
            launches.append(kernels.statistics_launch(view, target, stripes, rows, cols, None, False))
        places = macro_places(views[2], kernels.TritonKernels(target), False, False, True, True)
        h, w = places[0].rows.stop, places[0].cols.stop
        work = MacroPass(
            places, False, None, torch.empty(3, h, -(-w // ALIGNMENT) * ALIGNMENT, **half), torch.empty(1, 9, **single),
            GradientSum(torch.empty(1, m, 48, **single), q), GradientSum(torch.empty(1, 3, n, 48, **single), k),
            LineSums(row_term=row, col_term=col), LineSums(row_term=row, col_term=col),
        )
        block_launches = macro_pass.MacroLaunches(views[2], target, work)
        block_launches.run(0, places[-1])
        launches += [
            kernels.merge_launch(rows, row, row),
            kernels.gradient_launch(views[0], target, q, None, row),
            kernels.gradient_launch(views[1], target, k, None, col),
        ]
        for one in launches:
            one.kernel.warmup(**one.arguments, **one.options, grid=one.grid)
    for kernel in dict.fromkeys(one.kernel for one in launches):
        print(kernel.__name__, len(kernel.device_caches[0][0]))
"""


MACRO_KERNELS = ("macro_gradient_kernel", "macro_sums_kernel", "macro_product_kernel")


def test_one_compilation_serves_every_size(tmp_path):
    script = tmp_path / "all_sizes.py"
    script.write_text(textwrap.dedent(ALL_SIZES).format(tests=str(Path(__file__).parent)))
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    process = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=environment)
    assert process.returncode == 0, process.stderr
    found = dict(line.split() for line in process.stdout.splitlines())
    one_each = dict.fromkeys(("merge_partials_kernel", "gradient_bwd_kernel", *MACRO_KERNELS), "1")
    assert found == {**one_each, "statistics_fwd_kernel": "2"}  # of inner products and of volumes


# --- planted faults: each must be seen ----------------------------------------------------------------------------


def planted(module, folder, fault):
    """A copy of the module with one piece of its source replaced."""
    source = Path(module.__file__).read_text(encoding="utf-8")
    right, wrong = fault
    assert source.count(right) == 1, right
    path = folder / f"planted_{Path(module.__file__).name}"
    path.write_text(source.replace(right, wrong), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    copy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy)
    return copy


TALL = Case("off_diagonal", (3 * 64 * 2, 100, 9))  # two tiles of rows in a stripe
MUTATIONS = {
    # the running sum is not rescaled when a larger score appears
    "online merge": (
        statistics_fwd,
        "statistics_fwd_kernel",
        ("row_total * exponential(row_top - shift) + tl.sum", "row_total + tl.sum"),
        Case("off_diagonal", (70, 500, 9), columns=False),
    ),
    # zeros beyond the last row and column count as scores
    "tail mask": (
        tile,
        "mask_candidates",
        ("if at_the_end | may_exclude(", "if may_exclude("),
        Case("offset_outside", (70, 70, 9)),
    ),
    # a tile of rows forgets what the tiles above it have found in the same columns
    "column merge": (
        statistics_fwd,
        "statistics_fwd_kernel",
        ("top, total = merge_online(top_before, total_before, top, total)", "top, total = top, total"),
        TALL,
    ),
    # a line without candidates gives NaN
    "empty lines": (
        statistics_fwd,
        "finite_or_zero",
        ('return tl.where(tl.abs(top) == float("inf"), 0.0, top)', "return top"),
        Case("no_candidates", (20, 30, 9)),
    ),
    # the factor that keeps dS in the range of float16 is not taken out again
    "unit of float16": (
        gradient_bwd,
        "gradient_bwd_kernel",
        ("accumulated * (scale_value / unit_value)", "accumulated * scale_value"),
        Case("off_diagonal", (20, 30, 9)),
    ),
    # a tile of dS reads the products that the score pass kept of the first tile
    "kept products": (
        macro_bwd,
        "macro_gradient_kernel",
        ("offsets = rows.to(tl.int64)", "offsets = (rows % 64).to(tl.int64)"),
        Case("off_diagonal", (130, 300, 150)),
    ),
    # the second product of a macro-block overwrites instead of adding
    "macro-block sum": (
        macro_bwd,
        "add_product",
        (
            "total = tl.load(target, mask=inside, other=0.0)\n    for s",
            "total = tl.zeros((BLOCK_M, BLOCK_N), gradient.dtype.element_ty)\n    for s",
        ),
        Case("off_diagonal", (130, 300, 150)),
    ),
    # all entries of the batch add to the first one's gradient
    "entry of a gradient": (
        macro_bwd,
        "macro_product_kernel",
        ("d_rows + entry.to(tl.int64) * num_rows * D", "d_rows"),
        Case("off_diagonal", (70, 90, 150), batch=2),
    ),
    # products of the transposed weights with the rows of the first macro-block
    "rows of a block": (
        macro_bwd,
        "add_product",
        ("first_other + start,", "start,"),
        Case("off_diagonal", (200, 70, 150)),
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_planted_fault_is_seen(name, monkeypatch, tmp_path, small_macro_blocks):
    module, function, fault, case = MUTATIONS[name]
    dtype = torch.float16 if "float16" in name else torch.float32
    check_case(case, dtype, "triton")
    copy = planted(module, tmp_path, fault)
    for user in (statistics_fwd, tile, gradient_bwd, macro_bwd):
        if hasattr(user, function):
            monkeypatch.setattr(user, function, getattr(copy, function))
    with pytest.raises(AssertionError):
        check_case(case, dtype, "triton")


def check_volumes_in_blocks(cut, banks, dtype):
    cut(banks, dtype)
    check_volumes(Case("off_diagonal", (70, 66, 9), scale=-3.5), dtype, "triton", banks)


def check_bad_anchor(cut, banks, dtype):
    anchor, modalities = torch.randn(5, 6, dtype=dtype), torch.randn(banks, 5, 6, dtype=dtype)
    anchor[3, 1] = torch.nan
    row_lse = volume_statistics(anchor, list(modalities), backend="triton").row_lse
    assert row_lse.isnan().tolist() == [i == 3 for i in range(5)]


VOLUME_MUTATIONS = {
    # the lower triangle read by columns
    "mixing index": (
        volume,
        "load_mixing",
        ("r * (r + 1) // 2 + s", "s * (s + 1) // 2 + r"),
        (check_volumes_in_blocks, 3, torch.float32),
    ),
    # the first bank in the place of all
    "missing bank": (
        tile,
        "products",
        ("BLOCK_N, BLOCK_D, s, BANKS", "BLOCK_N, BLOCK_D, 0, BANKS"),
        (check_volumes_in_blocks, 2, torch.float32),
    ),
    # half precision: what the later coordinates owe to a bank is left out
    "weights not mixed": (
        volume,
        "volume_weights",
        ("tl.static_range(s + 1, BANKS)", "tl.static_range(s + 1, s + 1)"),
        (check_volumes_in_blocks, 2, torch.float16),
    ),
    # all banks write their weights to the first one's place
    "weights of a bank": (
        macro_bwd,
        "macro_gradient_kernel",
        ("targets + s * bank_stride", "targets"),
        (check_volumes_in_blocks, 2, torch.float32),
    ),
    # the tiles of columns share a slot of the rows' sums
    "slot of a row": (
        macro_bwd,
        "store_row_sums",
        ("slots + tl.program_id(1) * block_rows + i", "slots + i"),
        (check_volumes_in_blocks, 2, torch.float32),
    ),
    # a distance of 0 for NaN
    "NaN": (
        volume,
        "distance",
        ("tl.where(squared < 0.0, 0.0, squared)", "tl.where(squared > 0.0, squared, 0.0)"),
        (check_bad_anchor, 2, torch.float32),
    ),
}


@pytest.mark.parametrize("name", VOLUME_MUTATIONS)
def test_planted_fault_in_volumes_is_seen(name, monkeypatch, tmp_path, small_volume_blocks):
    module, function, fault, (check, banks, dtype) = VOLUME_MUTATIONS[name]
    check(small_volume_blocks, banks, dtype)
    copy = planted(module, tmp_path, fault)
    for user in (statistics_fwd, score, volume, tile, macro_bwd):
        if hasattr(user, function):
            monkeypatch.setattr(user, function, getattr(copy, function))
    with pytest.raises(AssertionError):
        check(small_volume_blocks, banks, dtype)


# rows 2^30 numbers apart: the third one starts beyond 2^31
FAR_ROWS = """
    import mmap, sys
    sys.path.insert(0, {tests!r})
    import conftest, torch
    from contrastive_ops import similarity_statistics

    D, STRIDE = 16, 2**30
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    memory = mmap.mmap(-1, 2 * (2 * STRIDE + D), flags=flags)  # address space: only the pages of three rows exist
    queries = torch.frombuffer(memory, dtype=torch.float16).as_strided((3, D), (STRIDE, 1))
    queries.copy_(torch.eye(3, D))
    near = queries.clone()
    keys = torch.ones(5, D, dtype=torch.float16)
    if {planted!r}:
        import importlib.util
        from contrastive_ops.triton_kernels import statistics_fwd
        spec = importlib.util.spec_from_file_location("planted_tile", {planted!r})
        copy = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(copy)
        statistics_fwd.load_rows = copy.load_rows
    found = similarity_statistics(queries, keys, backend="triton").row_lse
    expected = similarity_statistics(near, keys, backend="reference").row_lse
    assert torch.allclose(found, expected, rtol=1e-6), (found, expected)
"""


def run_far_rows(folder, planted_file):
    script = folder / "far_rows.py"
    script.write_text(textwrap.dedent(FAR_ROWS).format(tests=str(Path(__file__).parent), planted=str(planted_file)))
    return subprocess.run([sys.executable, str(script)], capture_output=True, text=True)


def test_offsets_beyond_32_bits(tmp_path):
    """Planted fault "int32 offset": the process then reads another address, so it runs in one of its own."""
    right = run_far_rows(tmp_path, "")
    assert right.returncode == 0, right.stderr
    fault = ("rows.to(tl.int64) * strides.row", "rows * strides.row")
    assert run_far_rows(tmp_path, planted(tile, tmp_path, fault).__file__).returncode != 0


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

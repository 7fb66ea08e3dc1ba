"""Sizes and the Triton kernels: one compilation serves all of them, and offsets beyond 32 bits are right."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from triton_problems import planted

pytest.importorskip("triton", reason="triton exists for Linux only")

from contrastive_ops.triton_kernels import tile

ALL_SIZES = """
    import sys
    sys.path.insert(0, {tests!r})
    import torch, triton_cases
    from triton.runtime import driver
    from contrastive_ops.backends.gpu.kernels import GradientSum, LineSums, MacroPass, plan_stripes
    from contrastive_ops.backends.gpu.view import view_of
    from contrastive_ops.backends.triton import kernels, launch, macro_pass
    from contrastive_ops.backends.triton.arguments import Target
    from contrastive_ops.backends.gpu.macro import ALIGNMENT, macro_places
    from contrastive_ops.build_problem import build_problem
    from contrastive_ops.reductions import LogSumExp, Reduced, ScoreSum
    from contrastive_ops.relations import diagonal, off_diagonal
    from contrastive_ops.scores import VolumeScore

    driver.set_active(triton_cases.FakeDriver(triton_cases.ARCHITECTURES["sm_80"].target))
    target = Target("sm_80", "half", "ieee")
    launches = []
    launch.Launch.run = lambda one: launches.append(one)
    half, single = dict(dtype=torch.bfloat16, device="meta"), dict(dtype=torch.float32, device="meta")
    for m, n in ((4096, 8192), (1, 1), (1, 4097), (333, 16), (70000, 5)):
        q, k, scale = torch.empty(1, m, 48, **half), torch.empty(1, n, 48, **half), torch.empty((), **single)
        row, col = torch.empty(1, m, **single), torch.empty(1, n, **single)
        reductions = dict(logs=LogSumExp(off_diagonal(), True, True), sums=ScoreSum(diagonal(), True, True))
        problem = build_problem(q, k, reductions, scale=scale, workspace_bytes=0).with_batch()
        score = VolumeScore(row, col, torch.empty(1, 6, n, **single))
        banks = torch.empty(1, n, 3, 48, **half).transpose(1, 2)
        volumes = problem._replace(cols=problem.cols._replace(vectors=banks), score=score)
        lines = (Reduced(row, col),) * 2
        views = [view_of(problem, lines, lines), view_of(volumes, lines, lines)]
        for view in views:
            stripes = plan_stripes(view, kernels.TritonKernels(target), False)
            rows, cols = (
                tuple(tuple(torch.empty(slots, 1, size, **single) for _ in range(states)) for states in (2, 1))
                for slots, size in ((stripes.num_col_stripes, m), (stripes.num_row_stripes, n))
            )
            launches.append(kernels.reduce_launch(view, target, stripes, rows, cols, None, False))
        places = macro_places(views[1], kernels.TritonKernels(target), False, False, True, True)
        h, w = places[0].rows.stop, places[0].cols.stop
        work = MacroPass(
            places, False, None, torch.empty(3, h, -(-w // ALIGNMENT) * ALIGNMENT, **half), torch.empty(1, 9, **single),
            GradientSum(torch.empty(1, m, 48, **single), q), GradientSum(torch.empty(1, 3, n, 48, **single), k),
            LineSums(row_term=row, col_term=col), LineSums(row_term=row, col_term=col),
        )
        block_launches = macro_pass.MacroLaunches(views[1], target, work)
        block_launches.run(0, places[-1])
        launches += [
            kernels.merge_launch(views[0], rows, [row, row]),
            kernels.gradient_launch(views[0], target, q, None, row),
            kernels.gradient_launch(views[0].transposed(), target, k, None, col),
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
    one_each = dict.fromkeys(("merge_states_kernel", "gradient_bwd_kernel", *MACRO_KERNELS), "1")
    assert found == {**one_each, "reduce_fwd_kernel": "2"}  # of inner products and of volumes


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
        from contrastive_ops.triton_kernels import reduce_fwd
        spec = importlib.util.spec_from_file_location("planted_tile", {planted!r})
        copy = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(copy)
        reduce_fwd.load_vectors = copy.load_vectors
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
    fault = ("lines.to(tl.int64) * strides.row", "lines * strides.row")
    assert run_far_rows(tmp_path, planted(tile, tmp_path, fault).__file__).returncode != 0

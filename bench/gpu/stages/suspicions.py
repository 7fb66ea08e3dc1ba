"""What a reading of the kernels suspects that only hardware shows, each as a small test of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.gpu.case import Case, Row, Setting, Skipped
from bench.gpu.graph import capture
from bench.gpu.journal import OK, WRONG
from bench.gpu.machine import refusals
from bench.gpu.verdict import compare, same_bits
from contrastive_ops import clip_loss, similarity_statistics, volume_statistics
from contrastive_ops.testing import dense_clip_loss, make_pairs

BATCH, M, N, D = 3, 40, 70, 64
SCALE = 14.25
THREAD_ROUNDS = 200
OTHER_ORDER = 1e-6  # two paths through the same numbers may add them in another order

Test = Callable[[Setting, str], Row]


def cases(setting: Setting) -> list[Case]:
    tests: dict[str, Test] = {
        "keys expanded over the batch": _expanded_over_batch,
        "batch entries between the lines of others": _batch_between_lines,
        "the device runs what reasons() promises": _tiny_launch,
        "float32 as TF32 on AMD": _tf32_on_amd,
        "volumes of 3 and 7 banks from two host threads": _two_threads,
        "NaN stays in its row": _nan_row,
        "NaN stays in its column": _nan_column,
        "step on a stream that is not the default one": _other_stream,
        "backward on another stream than forward": _backward_elsewhere,
        "step with a float scale in a CUDA graph": _float_scale_in_graph,
    }
    return [
        Case({"what": what, "backend": backend}, partial(_run, setting, test, backend))
        for what, test in tests.items()
        for backend in ("cuda", "triton")
    ]


def _run(setting: Setting, test: Test, backend: str) -> Row:
    if reasons := refusals(backend, setting.device):
        raise Skipped("; ".join(reasons))
    return test(setting, backend)


# --- layouts ---


def _expanded_over_batch(setting: Setting, backend: str) -> Row:
    queries, keys = _batched(setting)
    return _beside_contiguous(queries, keys[:1].expand_as(keys), backend)


def _batch_between_lines(setting: Setting, backend: str) -> Row:
    queries, keys = _batched(setting)
    apart = keys.transpose(0, 1).contiguous().transpose(0, 1)
    assert not apart.is_contiguous()
    return _beside_contiguous(queries, apart, backend)


def _batched(setting: Setting) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    queries, keys = (F.normalize(torch.randn(BATCH, size, D, generator=generator), dim=-1) for size in (M, N))
    return queries.bfloat16().to(setting.device), keys.bfloat16().to(setting.device)


def _beside_contiguous(queries: Tensor, keys: Tensor, backend: str) -> Row:
    """The same numbers in another layout give the same statistics and gradients."""
    found, expected = (_all_results(queries, layout, backend) for layout in (keys, keys.contiguous()))
    return compare(found, expected, backend, dict.fromkeys(expected, OTHER_ORDER))


def _all_results(queries: Tensor, keys: Tensor, backend: str) -> dict[str, Tensor]:
    queries, keys = queries.detach().requires_grad_(), keys.detach().requires_grad_()
    found = similarity_statistics(queries, keys, scale=SCALE, columns=True, backend=backend)
    assert found.row_lse is not None and found.col_lse is not None
    d_queries, d_keys = torch.autograd.grad(found.row_lse.sum() + found.col_lse.square().sum(), (queries, keys))
    return {"row_lse": found.row_lse, "col_lse": found.col_lse, "d_queries": d_queries, "d_keys": d_keys}


# --- what runs where ---


def _tiny_launch(setting: Setting, backend: str) -> Row:
    """The architectures that were built are those that the backend accepts."""
    found = _clip_results(setting, lambda x, y, scale: clip_loss(x, y, scale, backend=backend))
    truth = _clip_results(setting, dense_clip_loss, torch.float64)
    return compare(found, truth, backend, dict.fromkeys(truth, 1e-5))


def _tf32_on_amd(setting: Setting, backend: str) -> Row:
    if torch.version.hip is None:
        raise Skipped("an AMD GPU of the gfx9 family other than gfx942 would tell")
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        found = _clip_results(setting, lambda x, y, scale: clip_loss(x, y, scale, backend=backend), torch.float32)
    finally:
        torch.set_float32_matmul_precision(before)
    truth = _clip_results(setting, dense_clip_loss, torch.float64)
    return compare(found, truth, backend, dict.fromkeys(truth, 1e-2))


def _clip_results(
    setting: Setting, loss: Callable[[Tensor, Tensor, Tensor], Tensor], dtype: torch.dtype = torch.bfloat16
) -> dict[str, Tensor]:
    """Of the same bfloat16 numbers, in any dtype."""
    x, y = (leaf.to(setting.device, dtype).requires_grad_() for leaf in make_pairs(N, D, torch.bfloat16))
    scale = torch.tensor(SCALE, device=setting.device, dtype=torch.promote_types(dtype, torch.float32)).requires_grad_()
    value = loss(x, y, scale)
    return {"loss": value, **dict(zip(("dx", "dy", "dscale"), torch.autograd.grad(value, (x, y, scale)), strict=True))}


# --- NaN ---


def _nan_row(setting: Setting, backend: str) -> Row:
    queries, keys = (x[0] for x in _batched(setting))
    clean = similarity_statistics(queries, keys, scale=SCALE, backend=backend).row_lse
    queries = queries.clone()
    queries[3, 5] = torch.nan
    return _only_there(similarity_statistics(queries, keys, scale=SCALE, backend=backend).row_lse, clean)


def _nan_column(setting: Setting, backend: str) -> Row:
    queries, keys = (x[0] for x in _batched(setting))
    options: dict[str, Any] = {"scale": SCALE, "rows": False, "columns": True, "backend": backend}
    clean = similarity_statistics(queries, keys, **options).col_lse
    keys = keys.clone()
    keys[3, 5] = torch.nan
    return _only_there(similarity_statistics(queries, keys, **options).col_lse, clean)


def _only_there(found: Tensor | None, clean: Tensor | None) -> Row:
    assert found is not None and clean is not None
    is_nan = found.isnan()
    others = torch.arange(len(found), device=found.device) != 3
    worst = float((found - clean)[others].abs().max())
    # the statistics are below 10, in float32
    return {"nan_lines": int(is_nan.sum()), "worst_other": worst, "verdict": _ok(bool(is_nan[3]) and worst < 1e-5)}


# --- threads, streams and graphs ---


def _two_threads(setting: Setting, backend: str) -> Row:
    """Both set attributes of one kernel at the same time, without Python's lock."""
    setting.needs_gpu()
    failures: list[str] = []
    start = threading.Barrier(2)
    vectors = {count: [torch.randn(64, 32, device=setting.device) for _ in range(count + 1)] for count in (3, 7)}

    def volumes(count: int) -> Tensor:
        anchor, *modalities = vectors[count]
        found = volume_statistics(anchor, modalities, backend=backend).row_lse
        assert found is not None
        return found

    expected = {count: volumes(count) for count in vectors}  # compiled by now
    torch.cuda.synchronize()

    def launch(count: int) -> None:
        try:
            with torch.cuda.stream(torch.cuda.Stream(setting.device)):
                for _ in range(THREAD_ROUNDS):
                    start.wait(timeout=30)
                    if not same_bits(volumes(count), expected[count]):
                        failures.append(f"K = {count}: other bits")
        except Exception as error:
            failures.append(f"K = {count}: {type(error).__name__}: {str(error)[:80]}")
            start.abort()  # the other one waits for nobody

    threads = [threading.Thread(target=launch, args=(count,)) for count in vectors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    row = {"rounds": THREAD_ROUNDS, "failures": len(failures), "verdict": _ok(not failures)}
    return row | ({"why": failures[0]} if failures else {})


def _other_stream(setting: Setting, backend: str) -> Row:
    """Inputs are still being computed on that stream when the step is launched."""
    setting.needs_gpu()
    return _beside_plain(setting, backend, _step_on_stream)


def _backward_elsewhere(setting: Setting, backend: str) -> Row:
    setting.needs_gpu()
    return _beside_plain(setting, backend, _backward_on_stream)


def _beside_plain(setting: Setting, backend: str, step: Callable[[Setting, str], list[Tensor]]) -> Row:
    expected = _plain_step(*_late_inputs(setting), backend)
    torch.cuda.synchronize()
    found = step(setting, backend)
    torch.cuda.synchronize()
    same = all(map(same_bits, found, expected))
    return {"same_bits_as_on_one_stream": same, "verdict": _ok(same)}


def _late_inputs(setting: Setting) -> tuple[Tensor, Tensor]:
    """Embeddings at the end of a queue of slow work, the same at every call."""
    early = [value.to(setting.device) for value in make_pairs(2048, 768, torch.bfloat16)]  # a copy waits for the queue
    slow = torch.ones(4096, 4096, device=setting.device)
    for _ in range(20):
        slow = (slow @ slow).clamp(max=1.0)
    x, y = (value * slow[0, 0].to(value.dtype) for value in early)
    return x.requires_grad_(), y.requires_grad_()


def _plain_step(x: Tensor, y: Tensor, backend: str) -> list[Tensor]:
    loss = clip_loss(x, y, torch.tensor(SCALE, device=x.device), backend=backend)
    return [loss.detach(), *torch.autograd.grad(loss, (x, y))]


def _step_on_stream(setting: Setting, backend: str) -> list[Tensor]:
    with torch.cuda.stream(torch.cuda.Stream(setting.device)):
        return _plain_step(*_late_inputs(setting), backend)


def _backward_on_stream(setting: Setting, backend: str) -> list[Tensor]:
    side = torch.cuda.Stream(setting.device)
    x, y = _late_inputs(setting)
    loss = clip_loss(x, y, torch.tensor(SCALE, device=x.device), backend=backend)
    side.wait_stream(torch.cuda.current_stream(setting.device))
    with torch.cuda.stream(side):
        return [loss.detach(), *torch.autograd.grad(loss, (x, y))]


def _float_scale_in_graph(setting: Setting, backend: str) -> Row:
    """A number becomes a tensor of the device by a copy that waits, which a capture refuses: recorded, not judged."""
    setting.needs_gpu()
    x, y = (value.to(setting.device).requires_grad_() for value in make_pairs(N, D, torch.bfloat16))

    def step() -> list[Tensor]:
        loss = clip_loss(x, y, SCALE, backend=backend)
        return [loss.detach(), *torch.autograd.grad(loss, (x, y))]

    try:
        graph, found = capture(step, setting.device)
    except Exception as error:
        return {"captured": False, "why": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:150]}"}
    graph.replay()
    same = all(map(same_bits, found, step()))
    return {"captured": True, "same_bits_as_a_plain_step": same, "verdict": _ok(same)}


def _ok(right: bool) -> str:
    return OK if right else WRONG

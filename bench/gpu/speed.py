"""clip_loss beside others on a GPU: time, peak memory, and what the roofline predicted."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.gpu.machine import milliseconds
from bench.predict.gpus import gpu_of_device
from bench.predict.prediction import predict
from contrastive_ops import clip_loss
from contrastive_ops.testing import dense_clip_loss, make_pairs

SIZES = tuple((n, d) for d in (256, 512, 1024) for n in (4096, 16384, 65536))
DTYPES = (torch.bfloat16, torch.float32)
TEMPERATURE = 0.07  # where CLIP starts
OURS = "ours, triton"  # what the others' losses are compared with, and what the roofline predicts
AGREEMENT = 0.02  # relative; losses that differ by more compute something else

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


class Contestant(NamedTuple):
    name: str
    make: Callable[[], Loss]  # raises ImportError or AttributeError where it is not installed
    stored_scores: float = 0.0  # N x N matrices of the inputs' dtype that it holds at its peak, to skip what cannot fit
    same_loss: bool = True
    note: str = ""


class Measured(NamedTuple):
    n: int
    d: int
    dtype: str
    contestant: str
    milliseconds: float | None
    tflops: float | None  # three products of 2 N^2 D for everyone
    peak_mib: float | None  # above what the process held before the step, gradients included
    predicted_milliseconds: float | None  # by the roofline, ours only: with overlap
    predicted_without_overlap: float | None
    note: str


def contestants() -> list[Contestant]:
    return [
        Contestant(OURS, lambda: lambda x, y, scale: clip_loss(x, y, scale, backend="triton")),
        Contestant("ours, cuda", _cuda),
        Contestant("dense eager", lambda: dense_clip_loss, 5.0),
        Contestant("torch.compile", lambda: torch.compile(dense_clip_loss, dynamic=False), 3.0),
        Contestant("linear_cross_entropy x2", _linear_cross_entropy),
        Contestant("memeff", _memeff, note="no gradient of the scale"),
        Contestant("inf_cl x2", _inf_cl, note="computes in float32"),
        Contestant("siglip_kernel", _siglip, same_loss=False, note="another loss (sigmoid), for orientation"),
    ]


def measure_all(
    device: torch.device, sizes: tuple[tuple[int, int], ...], progress: Callable[[str], None]
) -> Iterator[Measured]:
    for dtype in DTYPES:
        for n, d in sizes:
            torch._dynamo.reset()  # its cache limit counts shapes
            expected: float | None = None
            for contestant in contestants():
                progress(f"{contestant.name} {n}x{d} {dtype}")
                measured, loss = _measure(contestant, device, n, d, dtype, expected)
                expected = loss if contestant.name == OURS else expected
                yield measured


def _measure(
    contestant: Contestant, device: torch.device, n: int, d: int, dtype: torch.dtype, expected: float | None
) -> tuple[Measured, float | None]:
    short = str(dtype).removeprefix("torch.")
    predicted = _prediction(device, n, d, short) if contestant.name == OURS else (None, None)

    def outcome(note: str, time: float | None = None, peak: float | None = None) -> Measured:
        tflops = None if time is None else 6.0 * n * n * d / time / 1e9
        return Measured(n, d, short, contestant.name, time, tflops, peak, *predicted, note)

    gc.collect()
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(device)
    needed = contestant.stored_scores * n * n * dtype.itemsize
    if needed > 0.9 * free:
        return outcome(f"skipped: about {needed / 2**30:.0f} GiB of scores, {free / 2**30:.0f} GiB free"), None
    try:
        loss_of = contestant.make()
    except (ImportError, AttributeError) as error:
        return outcome(f"not installed: {error}"), None
    x, y = (value.to(device).requires_grad_() for value in make_pairs(n, d, dtype))
    scale = torch.tensor(1 / TEMPERATURE, device=device, requires_grad=True)

    def step() -> Tensor:
        x.grad = y.grad = scale.grad = None
        loss = loss_of(x, y, scale)
        loss.backward()
        return loss.detach()

    try:
        loss = float(step())
        x.grad = y.grad = scale.grad = None
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step()
        peak = (torch.cuda.max_memory_allocated(device) - before) / 2**20
        time = milliseconds(step, device)
    except torch.cuda.OutOfMemoryError:
        return outcome("out of memory"), None
    except Exception as error:  # other packages' kernels: say so and go on
        return outcome(f"failed: {type(error).__name__}: {(str(error).splitlines() or [''])[0][:150]}"), None
    note = contestant.note
    if contestant.same_loss and expected is not None and abs(loss - expected) > AGREEMENT * abs(expected):
        note = f"{note} loss {loss:.4f} is not ours, {expected:.4f}".strip()
    return outcome(note, time, peak), loss


def _prediction(device: torch.device, n: int, d: int, dtype: str) -> tuple[float | None, float | None]:
    gpu = gpu_of_device(torch.cuda.get_device_name(device))
    if gpu is None:
        return None, None
    found = predict("clip", gpu, n, d, dtype)
    return found.seconds * 1e3, found.seconds_without_overlap * 1e3


def _cuda() -> Loss:
    import_module("contrastive_ops._cuda")  # an ImportError says that it is not built
    return lambda x, y, scale: clip_loss(x, y, scale, backend="cuda")


# --- the others ---


def _linear_cross_entropy() -> Loss:
    options = torch.nn.LinearCrossEntropyOptions()

    def loss(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
        target = torch.arange(x.shape[0], device=x.device)
        scaled = scale.to(x.dtype) * x
        forth = F.linear_cross_entropy(scaled, y, target, options=options)
        return 0.5 * (forth + F.linear_cross_entropy(y, scaled, target, options=options))

    return loss


def _memeff() -> Loss:
    # stable=True, its default, would scale the gradient by sqrt(batch * temperature)
    module: Any = import_module("memeff").MemoryEfficientCLIPLoss(
        temperature=TEMPERATURE, normalized_inputs=True, stable=False
    )
    return lambda x, y, scale: module(x, y)


def _inf_cl() -> Loss:
    flash: Any = import_module("inf_cl").cal_flash_loss
    return lambda x, y, scale: 0.5 * (flash(x, y, scale=scale) + flash(y, x, scale=scale)).mean()


def _siglip() -> Loss:
    fused: Any = import_module("siglip_kernel").fused_siglip_loss

    def loss(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
        return fused(x, y, scale.log(), scale.new_tensor(-10.0).requires_grad_())

    return loss

"""Launches the Triton kernels through the launcher of the installed triton, without a GPU.

    python tests/triton_launcher.py sm_90

Compiling ahead of time shows nothing of the last step: the launcher takes the arguments apart, unpacks tuples, makes
tensor maps of descriptors and calls the driver. Here all of that is triton's own, C code included; only the driver
library beneath it is a stub (`tests/stub_drivers`), which counts launches and refuses the tensor maps that the real one
refuses. Losses run forward and backward on CPU tensors, whose numbers no kernel touches.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

os.environ.pop("TRITON_INTERPRET", None)

import torch

STUBS = Path(__file__).parent / "stub_drivers"
ARCHITECTURES = ("sm_80", "sm_90", "sm_100", "gfx942")


class Launched(NamedTuple):
    """What reached the driver."""

    kernels: list[str]  # names, in order
    descriptors: int  # in the arguments of the launches
    tensor_maps: int  # made by the launcher


def build_stub(folder: Path, is_amd: bool) -> ctypes.CDLL:
    """The driver library, where triton looks for it first; loaded, so that `dlopen` by its name finds it."""
    spec = find_spec("triton")
    assert spec is not None and spec.origin is not None
    backends = Path(spec.origin).parent / "backends"
    name, source, include = (
        ("libamdhip64.so", "amdhip64.c", backends / "amd/include")
        if is_amd
        else ("libcuda.so.1", "cuda.c", backends / "nvidia/include")
    )
    library = folder / name
    flags = ["-shared", "-fPIC", "-w", f"-Wl,-soname,{name}", "-D__HIP_PLATFORM_AMD__", "-I", str(include)]
    subprocess.run([os.environ.get("CC", "cc"), *flags, str(STUBS / source), "-o", str(library), "-ldl"], check=True)
    os.environ |= {"TRITON_LIBHIP_PATH": str(library)} if is_amd else {"TRITON_LIBCUDA_PATH": str(folder)}
    return ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)


def launch_all(arch: str, stub: ctypes.CDLL, is_brief: bool) -> Launched:
    """Every kernel, with and without descriptors, of one batch entry and of several, for all scores."""
    # only now, as the driver is chosen when triton is imported
    from triton.tools.tensor_descriptor import TensorDescriptor

    from contrastive_ops.backends.gpu import macro
    from contrastive_ops.backends.gpu.gpu_size import GpuSize
    from contrastive_ops.backends.triton.launch import Launch, RepeatedLaunch

    # blocks of one tile: launches that are issued again with other numbers
    macro.gpu_size = lambda device: GpuSize(4, 128 * 128)  # type: ignore[assignment]
    use_stub(arch)
    kernels, descriptors = [], 0
    run, run_again = Launch.run, RepeatedLaunch.run

    def counting(launch: Launch) -> Any:
        before = stub.stub_launches()
        compiled = run(launch)
        assert stub.stub_launches() == before + 1, f"{launch.kernel.__name__} did not reach the driver"
        note(launch.kernel, launch.arguments.values())
        return compiled

    def counting_again(repeated: RepeatedLaunch, grid: tuple[int, int, int], changes: dict[str, Any]) -> None:
        is_first, before = repeated.compiled is None, stub.stub_launches()
        run_again(repeated, grid, changes)
        assert stub.stub_launches() == before + 1, f"{repeated.launch.kernel.__name__} did not reach the driver again"
        if not is_first:
            note(repeated.launch.kernel, repeated.values)

    def note(kernel: Any, arguments: Iterable[Any]) -> None:
        nonlocal descriptors
        kernels.append(kernel.__name__)
        for argument in arguments:
            if isinstance(argument, TensorDescriptor):
                descriptors += 1
                _check_reach(argument)

    Launch.run = counting  # type: ignore[method-assign]
    RepeatedLaunch.run = counting_again  # type: ignore[method-assign]
    for numbers in ("bf16",) if is_brief else ("bf16", "tf32", "fp64"):
        _solve_problems(arch, numbers, is_brief)
    maps = 0 if arch.startswith("gfx") else stub.stub_tensor_maps()
    return Launched(kernels, descriptors, maps)


def use_stub(arch: str) -> None:
    """Triton's driver is its own on the stub library, with the architecture that is asked for."""
    from triton.runtime import driver
    from triton_cases import ARCHITECTURES as KNOWN

    driver.set_active(_driver_of(KNOWN[arch].target))


def backend_on_stub(arch: str, numbers: str) -> Any:
    """The backend for tensors of any device, which no kernel touches."""
    import triton_cases

    from contrastive_ops.backends.triton import TritonBackend
    from contrastive_ops.backends.triton.arguments import Target
    from contrastive_ops.backends.triton.kernels import TritonKernels

    precision, *_ = triton_cases.FORMATS[numbers]
    target = Target(arch, precision, "tf32" if precision == "tf32" else "ieee")

    class OnStub(TritonBackend):
        def reasons(self, problem: Any) -> list[str]:
            return []

        def kernels(self, problem: Any) -> TritonKernels:
            return TritonKernels(target)

    return OnStub()


def _driver_of(target: Any) -> Any:
    """triton's own driver on the stub library, with the questions that need torch's answered."""
    if target.backend == "hip":
        from triton.backends.amd.driver import HIPDriver as Driver
    else:
        from triton.backends.nvidia.driver import CudaDriver as Driver
    found = Driver()
    found.get_current_device = lambda: 0
    found.get_current_stream = lambda device=0: 0
    found.set_current_device = lambda device: None
    found.get_device_capability = lambda device=0: divmod(target.arch, 10)
    found.get_current_target = lambda: target
    return found


def _check_reach(descriptor: Any) -> None:
    """A tensor map must not reach beyond the memory of its tensor."""
    base = descriptor.base
    last = sum((size - 1) * stride for size, stride in zip(descriptor.shape, descriptor.strides, strict=True))
    end = (base.storage_offset() + last + 1) * base.itemsize
    assert end <= base.untyped_storage().nbytes(), f"shape {descriptor.shape}, strides {descriptor.strides}"


def _solve_problems(arch: str, numbers: str, is_brief: bool) -> None:
    import triton_cases

    from contrastive_ops import clip_loss, diagonal, gram_loss, nt_xent, same, similarity_statistics
    from contrastive_ops.backends import BACKENDS

    _, dtype, _ = triton_cases.FORMATS[numbers]
    BACKENDS["triton"] = backend_on_stub(arch, numbers)

    def leaf(*shape: int) -> torch.Tensor:
        return torch.zeros(shape, dtype=dtype, requires_grad=True)

    def scale() -> torch.Tensor:
        return torch.ones((), requires_grad=True)

    ids = torch.arange(200) % 5
    for d in (64, 1024):  # gradients in one level and in two
        for workspace_bytes in (0,) if is_brief else (0, 2**26):
            clip_loss(leaf(200, d), leaf(200, d), scale(), workspace_bytes=workspace_bytes, backend="triton").backward()
        if not is_brief:
            nt_xent(leaf(100, d), leaf(100, d), backend="triton").backward()
    if numbers == "bf16":  # what a number format has no part in
        clip_loss(leaf(200, 65), leaf(200, 65), scale(), backend="triton").backward()  # rows of no multiple of 16 bytes
        queries, keys = leaf(3, 40, 64), leaf(70, 64)
        shared = keys.expand(3, 70, 64)  # one bank of keys for all entries
        between = leaf(70, 3, 64).transpose(0, 1)  # entries between the lines of others
        for other in (leaf(3, 70, 64), shared, between):
            found = similarity_statistics(
                queries, other, columns=True, row_bias=torch.zeros(3, 40, requires_grad=True),
                candidates=same(ids[:40], ids[:70]), positives=diagonal(), backend="triton",
            )  # fmt: skip
            sum(statistic.sum() for statistic in found).backward()
    if numbers == "bf16":
        _reduce_to_tuples(leaf, scale)
    for banks in (2,) if is_brief else (1, 2, 7):
        gram_loss(
            leaf(100, 64), [leaf(100, 64) for _ in range(banks)], label_smoothing=0.1, backend="triton"
        ).backward()


def _reduce_to_tuples(leaf: Any, scale: Any) -> None:
    """Every kind of reduction, with and without a factor, in other directions, with as many clauses as there can be."""
    from contrastive_ops import different, off_diagonal, same
    from contrastive_ops.ops.reduce import reduce
    from contrastive_ops.reductions import CountAbove, Largest, LogSumExp, ScoreSum

    ids = torch.arange(200) % 5
    narrow = different(ids[:130], ids) & same(ids[:130], ids) & off_diagonal(1) & off_diagonal(-1)
    line = torch.zeros(130)
    for reductions in (
        {"hot": LogSumExp(narrow, factor=2.0), "cold": LogSumExp(columns=True, factor=0.5), "sum": ScoreSum(narrow)},
        {
            "largest": Largest(narrow, columns=True),
            "above": CountAbove(row_values=line, factor=2.0),
            "logs": LogSumExp(off_diagonal(), rows=False, columns=True),
            "sum": ScoreSum(columns=True, factor=-1.0),
        },
    ):
        for d in (64, 1024):
            found = reduce(leaf(130, d), leaf(200, d), reductions, scale=scale(), backend="triton")
            lines = [x for result in found.values() for x in result if x is not None]
            torch.stack([x.sum() for x in lines if x.requires_grad]).sum().backward()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arch", choices=ARCHITECTURES, help="a process serves one vendor's driver")
    parser.add_argument("--brief", action="store_true", help="one number format, one size, no volumes of many vectors")
    options = parser.parse_args()
    arch = options.arch
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TRITON_CACHE_DIR"] = folder
        stub = build_stub(Path(folder), arch.startswith("gfx"))
        found = launch_all(arch, stub, options.brief)
    import triton

    kinds = {name: found.kernels.count(name) for name in sorted(set(found.kernels))}
    facts = {"descriptors": found.descriptors, "tensor_maps": found.tensor_maps}
    print(json.dumps({"triton": triton.__version__, "arch": arch, "launches": kinds} | facts))


if __name__ == "__main__":
    sys.exit(main())

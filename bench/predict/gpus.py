"""Datasheet rates of the GPUs that the roofline knows, and which of them a device is."""

from __future__ import annotations

from typing import NamedTuple

MIB = 1 << 20


class Gpu(NamedTuple):
    """Dense rates without sparsity, at boost clock; no power limit is modelled."""

    name: str
    arch: str  # as in the tile table
    half: float  # FLOP/s of bfloat16 and float16 products with float32 sums
    tf32: float
    fp32: float  # FLOP/s of plain multiply-adds
    hbm: float  # bytes/s
    l2: float  # bytes/s from L2 to the SMs, as micro-benchmarks saw it
    l2_nominal: float  # bytes/s if L2 delivered its width in every clock
    l2_bytes: int
    sms: int
    clock: float  # Hz
    mufu_lanes: int = 16  # exponentials a clock and SM (CUDA programming guide, arithmetic throughput)
    issue_lanes: int = 128  # instructions a clock and SM, times the lanes of each
    fp32_lanes: int = 128  # of them float32 adds and multiplies

    def per_second(self, lanes: int) -> float:
        return lanes * self.sms * self.clock


# L2 bandwidth is in no datasheet. Micro-benchmarks: 5.5 TB/s on an H100 PCIe with 114 SMs (Chips and Cheese, "Nvidia's
# H100: Funny L2, and Tons of Bandwidth", 2023), about 5 TB/s on an A100; the B200's is assumed to be twice that of an
# H100, one per die. Nominal: NVIDIA's A100 whitepaper states 5120 bytes a clock; the same is assumed of the H100, twice
# as much of the B200. MI300X: its Infinity Cache, 11.9 TB/s seen by Chips and Cheese (2024) of 17.2 TB/s stated by AMD;
# the 4 MiB of L2 in front of it in each of the eight dies are not modelled.
GPUS = (
    # NVIDIA A100 80GB SXM datasheet; 64 float32 lanes an SM
    Gpu("A100 SXM", "sm_80", 312e12, 156e12, 19.5e12, 2.04e12, 5e12, 5120 * 1.41e9, 40 * MIB, 108, 1.41e9, 16, 128, 64),
    # NVIDIA H100 SXM datasheet; 1.83 GHz is the clock at which 132 SMs give 989 TFLOP/s
    Gpu("H100 SXM", "sm_90", 989e12, 494e12, 67e12, 3.35e12, 5.5e12, 5120 * 1.83e9, 50 * MIB, 132, 1.83e9),
    # NVIDIA H200 SXM datasheet: an H100 with other memory; of L2 it has 60 MiB by what torch prints of one
    Gpu("H200 SXM", "sm_90", 989e12, 494e12, 67e12, 4.8e12, 5.5e12, 5120 * 1.83e9, 60 * MIB, 132, 1.83e9),
    # NVIDIA B200 datasheet, of one GPU of the HGX; 1.85 GHz likewise
    Gpu("B200", "sm_100", 2250e12, 1125e12, 75e12, 8.0e12, 11.0e12, 10240 * 1.85e9, 126 * MIB, 148, 1.85e9),
    # AMD MI300X datasheet; a compute unit issues 64 lanes a clock and a quarter of that of exponentials
    Gpu("MI300X", "gfx942", 1307e12, 654e12, 163e12, 5.3e12, 11.9e12, 17.2e12, 256 * MIB, 304, 2.1e9, 16, 64, 64),
)  # fmt: skip
# the first of an architecture
BY_ARCH = {gpu.arch: next(first for first in GPUS if first.arch == gpu.arch) for gpu in GPUS}


def gpu_of_device(device_name: str) -> Gpu | None:
    """The entry for what `torch.cuda.get_device_name` says; None for a GPU whose rates are not listed here.

    Other versions of the same chip (PCIe, less memory, GH200) have other clocks, so they are not matched.
    """
    name = device_name.upper()
    if any(other in name for other in ("PCIE", "NVL", "40GB", "GB200", "GH200", "64GB")):
        return None
    return next((gpu for gpu in GPUS if gpu.name.removesuffix(" SXM") in name), None)

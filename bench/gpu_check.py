"""`python -m bench.gpu_check`: are the GPU backends right and how fast are they on this GPU? From this checkout.

The tests' matrix of relations, shapes, layouts, options and dtypes, each twice for the same bits; then clip_loss beside
what else there is. A time budget is spread over all of it; the report says how many cases it left.
"""

from __future__ import annotations

import sys

from bench.gpu.command import Command
from bench.gpu.stage import Round, Stage

BUDGET = 540.0
STAGES = "bench.gpu.stages"
DTYPES = ("bfloat16", "float16", "float32", "float64")
SIZES = [(n, d) for n in (4096, 16384, 65536) for d in (512, 256, 1024)]
CONTESTANTS = [
    "ours, triton",
    "ours, cuda",
    "dense eager",
    "torch.compile",
    "linear_cross_entropy x2",
    "memeff",
    "inf_cl x2",
    "siglip_kernel",
]


def matrix(backend: str, dtype: str, seconds: float) -> Stage:
    name = f"matrix-{backend}-{dtype}"
    return Stage(name, f"{STAGES}.matrix:cases", seconds, {"backend": backend, "dtype": dtype})


def speed(dtype: str, seconds: float) -> Stage:
    given = {"contestants": CONTESTANTS, "sizes": SIZES, "dtypes": [dtype]}
    return Stage(f"speed-{dtype}", f"{STAGES}.speed:cases", seconds, given)


# compiling for Triton's part of the matrix takes most of the time: its processes run at the same time
ROUNDS: tuple[Round, ...] = (
    (Stage("environment", f"{STAGES}.environment:cases", 20), Stage("graphs", f"{STAGES}.graphs:cases", 60)),
    tuple(matrix("cuda", dtype, 90) for dtype in DTYPES),
    tuple(matrix("triton", dtype, 200) for dtype in DTYPES),
    (speed("bfloat16", 100),),
    (speed("float32", 70),),
)


def main(arguments: list[str] | None = None) -> int:
    command = Command("bench.gpu_check", __doc__, "GPU check of contrastive-ops", "out/gpu_check", BUDGET, ROUNDS)
    return command.run(arguments)


if __name__ == "__main__":
    sys.exit(main())

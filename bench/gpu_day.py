"""`python -m bench.gpu_day`: one run on a machine with a GPU, from this checkout, in minutes: right, fast, and why.

The most informative comes first. Every result is in out/gpu_day/report.jsonl as soon as it is there, and report.md is
readable at any time: whatever is stopped loses only itself.
"""

from __future__ import annotations

import sys

from bench.gpu.command import Command
from bench.gpu.stage import Round, Stage

BUDGET = 290.0
SIZES = [(n, d) for n in (4096, 65536, 16384, 32768) for d in (768, 512, 1024)]


def stage(name: str, module: str, seconds: float, **given: object) -> Stage:
    return Stage(name, f"bench.gpu.stages.{module}:cases", seconds, given)


def correctness(backend: str, dtype: str, seconds: float, of: str = "large") -> Stage:
    name = f"correct-{backend}-{dtype}" if of == "large" else f"smoke-{backend}-{of}"
    return stage(name, "correctness", seconds, backend=backend, dtype=dtype, of=of)


def speed(name: str, seconds: float, contestants: list[str], sizes: list[tuple[int, int]] = SIZES) -> Stage:
    return stage(name, "speed", seconds, contestants=contestants, sizes=sizes)


# times are of an idle machine: what is timed runs alone, what only has to be right runs together and compiles meanwhile
ROUNDS: tuple[Round, ...] = (
    (stage("environment", "environment", 20),),
    (stage("ceilings", "ceilings", 20),),
    (
        correctness("cuda", "bfloat16", 40, of="tiny"),
        *(correctness("triton", "bfloat16", 60, of=of) for of in ("tiny", "512", "768", "1024")),
    ),
    (speed("steps-cuda", 40, ["ours, cuda"]),),
    (speed("steps-triton", 40, ["ours, triton"]),),
    (speed("others", 30, ["dense eager", "ours, eager"]),),
    (speed("compiled", 30, ["torch.compile"], [(65536, 768), (16384, 768), (4096, 768)]),),
    (
        *(correctness(backend, dtype, 50) for dtype in ("bfloat16", "float16") for backend in ("cuda", "triton")),
        stage("suspicions", "suspicions", 50),
        stage("graphs", "graphs", 50),
    ),
    (stage("kernels", "kernels", 25),),
    (stage("sweeps", "sweeps", 40),),
    tuple(correctness(backend, dtype, 50) for dtype in ("float32", "float64") for backend in ("cuda", "triton")),
    (stage("sanitizers", "sanitizers", 90, each=40.0),),
    (stage("ncu-cuda", "counters", 60, backend="cuda", each=30.0),),
    (stage("ncu-triton", "counters", 60, backend="triton", each=30.0),),
)


def main(arguments: list[str] | None = None) -> int:
    command = Command("bench.gpu_day", __doc__, "contrastive-ops on a GPU", "out/gpu_day", BUDGET, ROUNDS)
    return command.run(arguments)


if __name__ == "__main__":
    sys.exit(main())

"""Predicted time of a training step, launch by launch: the slowest resource of each bounds it. No kernel runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from bench.predict.candidates import candidate_tiles, replaced_tile, table_row
from bench.predict.gpus import Gpu
from bench.predict.launch_costs import Cost, launch_cost
from bench.predict.launches import PRECISIONS, step_launches
from contrastive_ops.backends.triton.launch import Launch

FP32_SHARE = 0.55  # of the instructions counted: float32 adds and multiplies
# measured by tests/triton_host_cost.py with triton 3.8 on a stub of the driver, whose own few microseconds a launch are
# not in it: 4096 x 512 and 65536 x 768 on one thread of an AMD EPYC, 2026-12-01
HOST_STEP_SECONDS, HOST_LAUNCH_SECONDS = 0.25e-3, 9e-6
MACRO_SEARCH_N = 16384  # macro-blocks are alike from there on
PASSES = {
    "reduce_fwd_kernel": ("reduce", "scores"),
    "merge_states_kernel": (None, "merge of partials"),
    "gradient_bwd_kernel": ("gradient", "gradient, one side a launch"),
    "macro_gradient_kernel": ("macro_gradient", "macro-blocks: dS"),
    "macro_product_kernel": ("macro_product", "macro-blocks: products"),
    "macro_sums_kernel": (None, "macro-blocks: sums along lines"),
}


class Pass(NamedTuple):
    """All launches of one kernel in a step."""

    name: str
    kernel: str | None  # in the tile table
    launches: int
    flops: float
    resources: dict[str, float]  # seconds that each would need on its own
    parts: dict[str, float]  # of `seconds`: what bounds each launch; waves: multiprocessors without a program
    seconds: float
    seconds_without_overlap: float

    @property
    def bound(self) -> str:
        return max(self.parts, key=self.parts.__getitem__)


class Prediction(NamedTuple):
    gpu: Gpu
    objective: str
    n: int
    d: int
    dtype: str
    passes: list[Pass]

    @property
    def seconds(self) -> float:
        return sum(x.seconds for x in self.passes)

    @property
    def seconds_without_overlap(self) -> float:
        return sum(x.seconds_without_overlap for x in self.passes)

    @property
    def host_seconds(self) -> float:
        """The host issues launches while the GPU runs those before: the longer of both is what a step takes."""
        return HOST_STEP_SECONDS + HOST_LAUNCH_SECONDS * sum(x.launches for x in self.passes)

    @property
    def parts(self) -> dict[str, float]:
        """Of `seconds`, by what bounds each launch."""
        names = self.passes[0].parts
        return {name: sum(x.parts[name] for x in self.passes) for name in names}

    @property
    def bound(self) -> str:
        parts = self.parts
        return "host" if self.host_seconds > self.seconds else max(parts, key=parts.__getitem__)

    @property
    def flops(self) -> float:
        return sum(x.flops for x in self.passes)

    @property
    def effective_flops(self) -> float:
        """Three products of the whole matrix, the yardstick that all methods share."""
        side = 2 * self.n if self.objective == "nt_xent" else self.n
        return 3 * 2 * side * side * self.d

    @property
    def peak(self) -> float:
        return peak_flops(self.gpu, self.dtype)

    @property
    def share(self) -> float:
        return self.flops / self.seconds / self.peak

    @property
    def share_without_overlap(self) -> float:
        return self.flops / self.seconds_without_overlap / self.peak


def peak_flops(gpu: Gpu, dtype: str) -> float:
    return {"half": gpu.half, "tf32": gpu.tf32, "fp32": gpu.fp32}[PRECISIONS[dtype]]


def is_plain(gpu: Gpu, dtype: str) -> bool:
    """Whether products are instructions like all others; AMD's matrix cores also take float32."""
    return PRECISIONS[dtype] == "fp32" and not gpu.arch.startswith("gfx")


def predict(objective: str, gpu: Gpu, n: int, d: int, dtype: str) -> Prediction:
    return Prediction(gpu, objective, n, d, dtype, sum_passes(step_launches(objective, gpu, n, d, dtype), gpu, dtype))


def sum_passes(launches: Iterable[Launch], gpu: Gpu, dtype: str) -> list[Pass]:
    passes: dict[str, Pass] = {}
    for launch in launches:
        kernel, name = PASSES[launch.kernel.__name__]
        cost = launch_cost(launch, gpu)
        times = resource_seconds(cost, gpu, dtype)
        parts = bounding_parts(times, cost.balance)
        # products and element-wise work follow one another; L2 and memory deliver meanwhile
        serial = max(times["exp"], times["issue"]) + times["tensor"] * (not is_plain(gpu, dtype))
        elsewhere = max(times["L2"], times["HBM"], times["tensor"])
        known = passes.get(
            name, Pass(name, kernel, 0, 0.0, dict.fromkeys(times, 0.0), dict.fromkeys(parts, 0.0), 0.0, 0.0)
        )
        passes[name] = known._replace(
            launches=known.launches + 1,
            flops=known.flops + cost.flops,
            resources={key: known.resources[key] + value for key, value in times.items()},
            parts={key: known.parts[key] + value for key, value in parts.items()},
            seconds=known.seconds + max(times.values()),
            seconds_without_overlap=known.seconds_without_overlap + max(serial, elsewhere),
        )
    return list(passes.values())


def resource_seconds(cost: Cost, gpu: Gpu, dtype: str) -> dict[str, float]:
    """Seconds that each resource would take by itself."""
    multiply_adds = cost.flops / 2 * is_plain(gpu, dtype)
    issue = max(
        (cost.slots + multiply_adds) / gpu.per_second(gpu.issue_lanes),
        (FP32_SHARE * cost.slots + multiply_adds) / gpu.per_second(gpu.fp32_lanes),
    )
    return {
        "tensor": cost.flops / peak_flops(gpu, dtype) / cost.balance,
        "L2": cost.l2_bytes / gpu.l2,
        "HBM": cost.hbm_bytes / gpu.hbm,
        "exp": cost.exps / gpu.per_second(gpu.mufu_lanes) / cost.balance,
        "issue": issue / cost.balance,
    }


def bounding_parts(times: dict[str, float], balance: float) -> dict[str, float]:
    """The time of a launch by what bounds it: one resource, and where that is on the multiprocessors, their idling."""
    bound = max(times, key=times.__getitem__)
    idle = 0.0 if bound in ("L2", "HBM") else times[bound] * (1 - balance)
    parts = dict.fromkeys(("tensor", "waves", "L2", "HBM", "exp", "issue"), 0.0)
    parts[bound] += times[bound] - idle
    parts["waves"] += idle
    return parts


def best_candidate(kernel: str, prediction: Prediction) -> tuple[str, float, float]:
    """(row of the table, seconds with it, seconds with the table's own tile) for one kernel."""
    gpu, precision, n = prediction.gpu, PRECISIONS[prediction.dtype], prediction.n
    if any(x.kernel == "macro_gradient" for x in prediction.passes):
        n = min(n, MACRO_SEARCH_N)

    def seconds() -> float:
        # products that are kept would be read back, by a kernel of another tile
        launches = step_launches(prediction.objective, gpu, n, prediction.d, prediction.dtype, workspace_bytes=0)
        return sum(x.seconds for x in sum_passes(launches, gpu, prediction.dtype) if x.kernel == kernel)

    now, found = seconds(), []
    for tile in candidate_tiles(kernel, gpu.arch, precision, prediction.d):
        with replaced_tile(kernel, gpu.arch, precision, tile):
            found.append((seconds(), -tile.stages, tile))  # stages cost nothing here: the more the better
    best, _, tile = min(found)
    return table_row(tile, prediction.d), best, now

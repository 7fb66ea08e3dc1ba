"""Every kernel that a training step launches, taken from the Triton backend itself: it runs on tensors without data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import torch
from torch import Tensor

from bench.predict.gpus import Gpu
from contrastive_ops import diagonal, different, off_diagonal, same
from contrastive_ops.backends import BACKENDS, Wanted
from contrastive_ops.backends.gpu import macro
from contrastive_ops.backends.gpu.gpu_size import LEAST_MACRO_BYTES, GpuSize
from contrastive_ops.backends.triton import backend as triton_backend
from contrastive_ops.backends.triton.launch import Launch
from contrastive_ops.build_problem import build_problem
from contrastive_ops.ops.statistics import statistics_reductions
from contrastive_ops.problem import DEFAULT_WORKSPACE_BYTES, Problem

OBJECTIVES = ("clip", "nt_xent", "info_nce")
PRECISIONS = {"bfloat16": "half", "float16": "half", "float32": "fp32", "tf32": "tf32"}


def step_launches(
    objective: str, gpu: Gpu, n: int, d: int, dtype: str, workspace_bytes: int = DEFAULT_WORKSPACE_BYTES
) -> list[Launch]:
    """The launches of forward and backward over N pairs of D-dimensional embeddings, in their order."""
    problem = _problem(objective, n, d, torch.float32 if dtype == "tf32" else getattr(torch, dtype), workspace_bytes)
    backend = BACKENDS["triton"]
    # in self-similarity the gradient of the queries holds both roles
    wanted = Wanted(queries=True, keys=not problem.self_similarity, scale=True, row_bias=False, col_bias=False)
    with _recorded(gpu, allow_tf32=dtype == "tf32") as launches:
        results, state = backend.forward(problem)
        assert state is not None
        logs, sums = results
        # the losses use no column sums
        backend.backward(problem, results, (logs, sums._replace(columns=None)), state, wanted)
    return launches


def _problem(objective: str, n: int, d: int, dtype: torch.dtype, workspace_bytes: int) -> Problem:
    def features(rows: int) -> Tensor:
        return torch.empty(1, rows, d, dtype=dtype, device="meta")

    if objective == "nt_xent":
        queries = keys = features(2 * n)
        instance = torch.empty(2 * n, dtype=torch.int64, device="meta")
        candidates, positives = different(instance), same(instance) & off_diagonal()
    else:
        queries, keys = features(n), features(n)
        candidates, positives = off_diagonal(), diagonal()
    return build_problem(
        queries,
        keys,
        statistics_reductions(candidates, positives, columns=objective == "clip"),
        scale=torch.empty((), device="meta"),
        workspace_bytes=workspace_bytes,
    ).with_batch()


@contextmanager
def _recorded(gpu: Gpu, *, allow_tf32: bool) -> Iterator[list[Launch]]:
    """Launches are kept instead of run, for a GPU that need not be here."""
    launches: list[Launch] = []
    # an AMD GPU says how large the cache of one of its dies is, 4 MiB
    size = GpuSize(gpu.sms, LEAST_MACRO_BYTES if gpu.arch.startswith("gfx") else gpu.l2_bytes // 2)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if allow_tf32 else "highest")
    try:
        with (
            mock.patch.object(triton_backend, "_arch", lambda device: gpu.arch),
            mock.patch.object(macro, "gpu_size", lambda device: size),
            mock.patch.object(Launch, "run", lambda launch: launches.append(launch)),
        ):
            yield launches
    finally:
        torch.set_float32_matmul_precision(before)

"""What computed "ours": the backend, its instruction set and its threads, for the caption and the JSON file."""

from __future__ import annotations

from typing import Any

import torch

from contrastive_ops.backends import select_backend
from contrastive_ops.backends.cpu import instruction_set
from contrastive_ops.build_problem import build_problem
from contrastive_ops.ops.statistics import statistics_reductions


def solver_info(backend: str | None, threads: int) -> dict[str, Any]:
    """For CPU tensors; `backend` as given to a loss, None for the first that can."""
    x = torch.zeros(1, 1, 1)
    name = select_backend(build_problem(x, x.clone(), statistics_reductions(None, None)).with_batch(), backend).name
    return {"backend": name, "isa": instruction_set() if name == "cpu" else None, "threads": threads}


def described(info: dict[str, Any]) -> str:
    """One line."""
    kernels = info["isa"] or "kernels of torch"
    return f"ours: backend {info['backend']}, {kernels}, {info['threads']} thread{'s' * (info['threads'] > 1)}"

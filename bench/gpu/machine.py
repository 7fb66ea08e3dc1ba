"""Whether there is a GPU to measure on, what it is, and its clock."""

from __future__ import annotations

import datetime
import os
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

import contrastive_ops
from contrastive_ops.backends import BACKENDS
from contrastive_ops.backends.triton.backend import INTERPRET_VARIABLE
from contrastive_ops.build_problem import build_problem
from contrastive_ops.ops.statistics import statistics_reductions

NO_GPU = 2  # exit status


def missing(device: torch.device) -> str | None:
    """What keeps the Triton backend from this device, and what to do; None if nothing does."""
    if device.type == "cpu":
        interpreted = os.environ.get(INTERPRET_VARIABLE) == "1"
        return None if interpreted else f"without a GPU the kernels run in Triton's interpreter: {INTERPRET_VARIABLE}=1"
    if torch.version.cuda is None and torch.version.hip is None:
        return (
            f"no GPU is used: this torch ({torch.__version__}) is built for the CPU. On a machine with a GPU "
            "install a build for it."
        )
    if not torch.cuda.is_available():
        return f"no GPU was found by torch {torch.__version__}: neither CUDA nor HIP has a device (driver missing?)."
    if package_version("triton") is None and package_version("pytorch-triton-rocm") is None:
        return "triton is not installed: pip install triton"
    return None


def refusals(backend: str, device: torch.device) -> list[str]:
    """Why this backend would not run on the device."""
    rows = torch.empty(2, 16, device=device)
    problem = build_problem(rows, rows.clone(), statistics_reductions(None, None, columns=True)).with_batch()
    return BACKENDS[backend].reasons(problem)


def package_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def gpu_info(device: torch.device) -> dict[str, Any]:
    """Device, driver, versions and date, for the report; nothing that names the machine."""
    info: dict[str, Any] = {"device": "CPU (Triton's interpreter)", "driver": None, "memory_gib": None}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        info = {
            "device": properties.name,
            "capability": ".".join(map(str, torch.cuda.get_device_capability(device))),
            "processors": properties.multi_processor_count,
            "memory_gib": round(properties.total_memory / 2**30, 1),
            "driver": _driver(),
        }
    return info | {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "hip": torch.version.hip,
        "triton": package_version("triton") or package_version("pytorch-triton-rocm"),
        "contrastive_ops": contrastive_ops.__version__,
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _driver() -> str | None:
    if torch.version.hip is not None or shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    found = subprocess.run(query, capture_output=True, text=True, timeout=30)
    return found.stdout.split("\n")[0].strip() or None

"""What this runs on, and which backends take its tensors."""

from __future__ import annotations

import platform
import shutil
from functools import partial

import numpy

import contrastive_ops
from bench import REPOSITORY
from bench.gpu.case import Case, Row, Setting, Skipped
from bench.gpu.machine import gpu_info, refusals

PROGRAMS = ("nvcc", "compute-sanitizer", "ncu", "nvidia-smi")


def cases(setting: Setting) -> list[Case]:
    return [
        Case({"what": "machine"}, partial(_machine, setting)),
        Case({"what": "programs"}, lambda: {name: shutil.which(name) is not None for name in PROGRAMS}),
        *(Case({"what": "backend", "backend": name}, partial(_backend, setting, name)) for name in ("cuda", "triton")),
    ]


def _machine(setting: Setting) -> Row:
    here = str(contrastive_ops.__file__).startswith(str(REPOSITORY))
    versions = {"python": platform.python_version(), "numpy": numpy.__version__}
    return {**gpu_info(setting.device), **versions, "imported_from": "this checkout" if here else "an installation"}


def _backend(setting: Setting, name: str) -> Row:
    if reasons := refusals(name, setting.device):
        raise Skipped("; ".join(reasons))
    return {"takes": "tensors of this device"}

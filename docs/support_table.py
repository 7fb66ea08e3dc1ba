"""The README's support table, asked from the backends themselves: `python docs/support_table.py [--write]`."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import SimpleNamespace

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from contrastive_ops.backends import AUTOMATIC, BACKENDS, Backend
from contrastive_ops.backends.cuda import CudaBackend
from contrastive_ops.build_problem import build_problem
from contrastive_ops.check import SUPPORTED_DTYPES
from contrastive_ops.ops.statistics import statistics_reductions
from contrastive_ops.problem import Problem

README = Path(__file__).resolve().parent.parent / "README.md"
BEGIN, END = "<!-- support table: begin -->\n", "<!-- support table: end -->"
DEVICES = {"cpu": "CPU", "cuda": "GPU"}


def support_table() -> str:
    """Markdown; needs no GPU, because reasons look at metadata only and fake tensors have that."""
    lines = [
        f"| backend | what it is | {' | '.join(DEVICES.values())} | `backend=None` |",
        "|---|---|" + "---|" * len(DEVICES) + "---|",
    ]
    # the table is of what can be had, so CUDA is asked as if it were built here
    for name, backend in (BACKENDS | {"cuda": CudaBackend(module=SimpleNamespace(CODES=[]))}).items():
        cells = [_dtypes(backend, device) for device in DEVICES]
        order = f"choice {AUTOMATIC.index(name) + 1}" if name in AUTOMATIC else "only by name"
        lines.append(f"| `{name}` | {backend.summary} | {' | '.join(cells)} | {order} |")
    return "\n".join(lines) + "\n"


def write_readme() -> None:
    """Replace what stands between the markers."""
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    README.write_text(before + BEGIN + support_table() + END + after, encoding="utf-8")


def _dtypes(backend: Backend, device: str) -> str:
    with FakeTensorMode():
        supported = [dtype for dtype in SUPPORTED_DTYPES if not backend.reasons(_problem(device, dtype))]
    return ", ".join(str(dtype).removeprefix("torch.") for dtype in supported) or "no"


def _problem(device: str, dtype: torch.dtype) -> Problem:
    queries, keys = (torch.empty((8, 4), device=device, dtype=dtype) for _ in range(2))
    return build_problem(queries, keys, statistics_reductions(None, None, columns=True)).with_batch()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the table into README.md instead of printing it")
    if parser.parse_args().write:
        write_readme()
    else:
        print(support_table(), end="")

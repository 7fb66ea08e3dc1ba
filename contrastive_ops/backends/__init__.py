"""Backend selection: the named one or the first without a reason against it; never a silent fallback."""

from __future__ import annotations

import warnings
from functools import cache

from contrastive_ops.backends.base import Backend, Outer, Wanted
from contrastive_ops.backends.cpu import CpuBackend
from contrastive_ops.backends.cuda import CudaBackend
from contrastive_ops.backends.eager import EagerBackend
from contrastive_ops.backends.reference import ReferenceBackend
from contrastive_ops.backends.triton import TritonBackend
from contrastive_ops.problem import Problem

__all__ = ["AUTOMATIC", "BACKENDS", "Backend", "Outer", "Wanted", "check_backend_name", "select_backend"]

BACKENDS: dict[str, Backend] = {
    backend.name: backend
    for backend in (CpuBackend(), TritonBackend(), CudaBackend(), EagerBackend(), ReferenceBackend())
}
AUTOMATIC = ("cpu", "triton", "cuda", "eager")  # tried in this order when no backend is named (docs/design.md says why)


def check_backend_name(name: str | None) -> None:
    """Raise if `name` is not a known backend."""
    if name is not None and name not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)} or None, got {name!r}")


def select_backend(problem: Problem, name: str | None) -> Backend:
    """The backend called `name`, or for None the first of `AUTOMATIC` that can solve the problem.

    Warns once where a better one would, if only it were installed.
    """
    check_backend_name(name)
    refusals: list[str] = []
    missing: list[str] = []
    for candidate in (name,) if name is not None else AUTOMATIC:
        backend = BACKENDS[candidate]
        reasons = backend.reasons(problem)
        if not reasons:
            if missing:
                _warn_once(f"backend {candidate!r} is used. Preferred ones lack something: " + " | ".join(missing))
            return backend
        refusals.append(f"{candidate}: {'; '.join(reasons)}")
        if reasons == [backend.missing()]:
            missing.append(refusals[-1])
    if name is not None:
        raise ValueError(f"backend {name!r} cannot solve this problem: {'; '.join(reasons)}")
    raise ValueError("no backend can solve this problem. " + " | ".join(refusals))


@cache
def _warn_once(message: str) -> None:
    warnings.warn(f"contrastive_ops: {message}", RuntimeWarning, stacklevel=3)

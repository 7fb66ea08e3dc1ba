"""Launches of Triton kernels: what one consists of, and how one that differs by a few numbers is issued again."""

from __future__ import annotations

from typing import Any, NamedTuple

from triton.compiler import CompiledKernel


class Launch(NamedTuple):
    """One kernel with everything that it is called with."""

    kernel: Any
    grid: tuple[int, ...]
    arguments: dict[str, Any]
    warps: int = 4
    stages: int = 1

    @property
    def options(self) -> dict[str, Any]:
        """Of the compiler. Triton 3.9 asks for a word on fused multiply-adds, whose default is about to change."""
        return {"num_warps": self.warps, "num_stages": self.stages, "enable_fp_fusion": True}

    def run(self) -> Any:
        """Puts it on the stream. What the kernel was compiled to, but in the interpreter."""
        return self.kernel[self.grid](**self.arguments, **self.options)


class RepeatedLaunch:
    """A launch that is issued again and again with other numbers, other descriptors and another grid.

    Triton looks at all arguments of a launch to find what it compiled for them, 25 us for kernels like ours. What
    changes here decides nothing (`do_not_specialize`), so that from the second time on the kernel is launched as it is.
    """

    def __init__(self, launch: Launch) -> None:
        self.launch = launch
        self.compiled: CompiledKernel | None = None
        names = launch.kernel.arg_names
        self.values = [launch.arguments.get(name) for name in names]  # all, in the order of the kernel
        self.places = {name: place for place, name in enumerate(names)}

    def run(self, grid: tuple[int, int, int], changes: dict[str, Any]) -> None:
        if self.compiled is None:
            compiled = self.launch._replace(grid=grid, arguments=self.launch.arguments | changes).run()
            # nothing in the interpreter, and a promise while triton compiles in the background
            self.compiled = compiled if isinstance(compiled, CompiledKernel) else None
            return
        values, places = self.values, self.places
        for name, value in changes.items():
            values[places[name]] = value
        self.compiled[grid](*values)

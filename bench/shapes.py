"""Problem sizes, written `4096x512` (batch size x embedding size)."""

from __future__ import annotations

from typing import NamedTuple


class Shape(NamedTuple):
    """N pairs of D-dimensional embeddings."""

    n: int
    d: int

    def __str__(self) -> str:
        return f"{self.n}x{self.d}"

    @classmethod
    def parse(cls, text: str) -> Shape:
        n, separator, d = text.partition("x")
        if not separator or not n.isdecimal() or not d.isdecimal() or not int(n) or not int(d):
            raise ValueError(f"a shape is written like 4096x512 (batch size x embedding size), got {text!r}")
        return cls(int(n), int(d))

    @property
    def inputs_bytes(self) -> int:
        """Both float32 inputs; their gradients are as large."""
        return 2 * self.n * self.d * 4

    @property
    def scores_bytes(self) -> int:
        """One stored float32 score matrix."""
        return self.n * self.n * 4


FULL = tuple(Shape(n, d) for n in (256, 512, 1024, 2048, 4096, 8192, 16384) for d in (128, 256, 512, 1024))
# small and large batches, narrow and wide embeddings, in at most ten minutes on two cores
DEFAULT = tuple(map(Shape.parse, ("256x512", "1024x512", "2048x1024", "4096x512", "8192x512", "16384x128")))
DEFAULT_FORWARD_UP_TO_N = 8192  # forward alone says nothing new above it, and costs minutes

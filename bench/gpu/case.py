"""What a stage is made of: cases, each with the function that finds its numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

Row = dict[str, Any]


class Setting(NamedTuple):
    """Where a stage runs, and the folder for what is longer than a row."""

    device: torch.device
    out: Path

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def choose(self, on_gpu: Any, rehearsed: Any) -> Any:
        """Without a GPU everything runs at tiny sizes, through the same code."""
        return on_gpu if self.on_gpu else rehearsed

    def needs_gpu(self) -> None:
        if not self.on_gpu:
            raise Skipped("needs a GPU")


class Case(NamedTuple):
    """`what` names it (`{"what": "clip_loss", "n": 4096, ...}`); `measure` returns its numbers, with units in their
    keys, and perhaps a `verdict`; or several rows of them."""

    what: Row
    measure: Callable[[], Row | list[Row]]


class Skipped(Exception):
    """A case that has no numbers here, and why; no failure."""

"""The code of docs/distributed.md, on every rank."""

import re
from pathlib import Path

import torch

DOCUMENT = Path(__file__).parent.parent / "docs" / "distributed.md"


def run(rank: int, world: int) -> list[float]:
    """The value of the loss of each block."""
    values = []
    for block in re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        torch.manual_seed(rank)
        namespace = {"__name__": "document"}
        exec(compile(block, str(DOCUMENT), "exec"), namespace)
        values.append(float(namespace["value"] if "value" in namespace else namespace["loss"]))
    return values

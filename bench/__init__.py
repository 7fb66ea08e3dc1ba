"""Speed and memory of the losses beside what a trainer would use instead.

At the top lie the commands (`python -m bench`, `python -m bench.roofline`, ...) and what they share; in the rooms their
parts: `cpu`, `commits`, `predict` and `gpu`.
"""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]

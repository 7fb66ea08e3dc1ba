"""Which of many costly checks are made although nothing says that they would find something new."""

import hashlib
import subprocess
from pathlib import Path


def is_sampled(name: str, seed: str) -> bool:
    """An eighth of the names, which another seed draws anew."""
    return hashlib.sha256(f"{seed} {name}".encode()).digest()[0] % 8 == 0


def commit() -> str:
    """Of the sources; one word for all where they are not under git."""
    command = ["git", "rev-parse", "HEAD"]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    return run.stdout.strip() or "none"

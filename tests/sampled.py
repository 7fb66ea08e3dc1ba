"""Which of many costly checks are made although nothing says that they would find something new."""

import subprocess
import zlib
from pathlib import Path


def is_sampled(name: str, seed: str) -> bool:
    """An eighth of the names, which another seed draws anew."""
    return zlib.crc32(f"{seed} {name}".encode()) % 8 == 0


def commit() -> str:
    """Of the sources; one word for all where they are not under git."""
    command = ["git", "rev-parse", "HEAD"]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    return run.stdout.strip() or "none"

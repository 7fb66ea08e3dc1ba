"""Where results go: refused before the work if nothing can be written there."""

from __future__ import annotations

import tempfile
from pathlib import Path


def make_folder(option: str, folder: Path, given: Path) -> None:
    """Make the folder, and leave with a line that names the option and what it was given if that is impossible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise SystemExit(f"{option} {given} cannot be written: {error.strerror}") from error

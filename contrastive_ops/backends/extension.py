"""Whose compiled extension it is that was imported."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

PACKAGE = Path(__file__).parents[2]  # the folder that contrastive_ops was imported from


def check_own(extension: ModuleType) -> None:
    """Raise ImportError for the extension of another copy of the package, which may compute other things.

    An editable installation lends its own to every copy without one, as its finder knows it by name alone.
    """
    folder = Path(extension.__file__ or "").parent.resolve()
    if folder != (PACKAGE / "contrastive_ops").resolve():
        raise ImportError(f"Python found only that of another copy, {folder}, installed editable")

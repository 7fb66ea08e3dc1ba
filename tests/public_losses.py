"""Loss modules of public libraries, loaded without their packages' `__init__`.

Those import torchvision, which does not import beside a CPU build of torch, and other things that no loss needs. A
parent package is replaced by an empty one with the same path, so that the loss module and what it really uses load
from their files; afterwards sys.modules is as it was.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from unittest.mock import MagicMock


def open_clip_loss() -> ModuleType:
    with _without_init("open_clip"):
        return importlib.import_module("open_clip.loss")


def lightly_ntxent() -> ModuleType:
    packages = ("lightly", "lightly.loss", "lightly.models", "lightly.utils")
    with _without_init(*packages, unused=("lightly.models.utils",)):
        return importlib.import_module("lightly.loss.ntx_ent_loss")


def lightly_loss(name: str) -> ModuleType:
    """`name`: dcl_loss or hypersphere_loss."""
    with _without_init("lightly", "lightly.loss", "lightly.utils"):
        return importlib.import_module(f"lightly.loss.{name}")


def metric_learning(name: str) -> ModuleType:
    """`name`: ntxent_loss or supcon_loss."""
    with _without_init("pytorch_metric_learning.losses", unused=("scipy", "scipy.stats", "tqdm")):
        return importlib.import_module(f"pytorch_metric_learning.losses.{name}")


@contextmanager
def _without_init(*packages: str, unused: tuple[str, ...] = ()) -> Iterator[None]:
    before = dict(sys.modules)
    try:
        for name in packages:
            sys.modules[name] = _empty_package(name)
        for name in unused:
            sys.modules[name] = MagicMock(name=name)
        yield
    finally:
        sys.modules.clear()
        sys.modules.update(before)


def _empty_package(name: str) -> ModuleType:
    parent, _, _ = name.rpartition(".")
    path = list(importlib.import_module(parent).__path__) if parent else None
    found = PathFinder.find_spec(name, path)
    if found is None or found.submodule_search_locations is None:
        raise ModuleNotFoundError(f"{name} is not installed: pip install --no-deps -r tests/oracles.txt")
    package = ModuleType(name)
    package.__path__ = list(found.submodule_search_locations)
    package.__spec__ = ModuleSpec(name, None, is_package=True)
    return package

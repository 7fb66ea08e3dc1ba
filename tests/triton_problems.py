"""What tests of the Triton kernels share: small macro-blocks, and kernels with a fault planted in their source."""

import importlib
import importlib.util
import pkgutil
from pathlib import Path

from contrastive_ops import triton_kernels
from contrastive_ops.backends.gpu import macro
from contrastive_ops.backends.gpu.gpu_size import GpuSize

TILE = 64  # of the interpreter's rows in the table


def cut_macro_blocks(monkeypatch, size):
    """Macro-blocks of at most this many bytes."""
    monkeypatch.setattr(macro, "gpu_size", lambda device: GpuSize(4, size))


def plant(monkeypatch, folder, module, function, fault):
    """A function of the kernels with one piece of its source replaced, wherever kernels call it."""
    copy = planted(module, folder, fault)
    found = pkgutil.walk_packages(triton_kernels.__path__, f"{triton_kernels.__name__}.")
    users = [importlib.import_module(each.name) for each in found]
    assert any(hasattr(user, function) for user in users), function
    for user in users:
        if hasattr(user, function):
            monkeypatch.setattr(user, function, getattr(copy, function))


def planted(module, folder, fault):
    """A copy of the module with one piece of its source replaced."""
    source = Path(module.__file__).read_text(encoding="utf-8")
    right, wrong = fault
    assert source.count(right) == 1, right
    path = folder / f"planted_{module.__name__.replace('.', '_')}.py"
    path.write_text(source.replace(right, wrong), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    copy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy)
    return copy

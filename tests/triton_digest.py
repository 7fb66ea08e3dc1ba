"""All that decides what Triton makes of a launch, as a few letters, without compiling it.

Code counts as the kernel and every function, constant and named tuple that it reaches, as Python reads them: comments,
docstrings and line numbers do not count. Arguments count by kind, size and strides.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import textwrap
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import torch
import triton
from triton.language import constexpr, dtype
from triton.runtime import JITFunction

from contrastive_ops.backends.triton.launch import Launch


def digest(launch: Launch, target: object) -> str:
    found = hashlib.sha256()
    for part in (triton.__version__, target, sorted(launch.options.items()), *sorted(_described(launch.arguments))):
        found.update(f"{part}\n".encode())
    for part in _code(launch.kernel):
        found.update(f"{part}\n".encode())
    return found.hexdigest()[:16]


def _described(arguments: dict[str, Any]) -> Iterator[str]:
    for name, value in arguments.items():
        yield f"{name}: {_description(value)}"


def _description(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"{value.dtype}{tuple(value.shape)}{value.stride()}"
    if isinstance(value, tuple):
        names = getattr(value, "_fields", range(len(value)))
        fields = ", ".join(f"{name}={_description(each)}" for name, each in zip(names, value, strict=True))
        return f"{type(value).__name__}({fields})"
    if hasattr(value, "block_shape"):  # a tensor descriptor
        return f"descriptor of {_description(value.base)}{value.shape}{value.strides}{value.block_shape}"
    return repr(value)


def _code(kernel: JITFunction) -> Iterator[str]:
    """The kernel, and what it reaches, each once."""
    waiting, seen = [kernel], {id(kernel)}
    while waiting:
        function = waiting.pop()
        tree = ast.parse(textwrap.dedent(function.src))
        yield f"{function.__name__} {function.do_not_specialize} {_without_docstrings(tree)}"
        for name, value in _globals_of(tree, function.fn.__globals__):
            if isinstance(value, JITFunction):
                if id(value) not in seen:
                    seen.add(id(value))
                    waiting.append(value)
            elif inspect.isclass(value) and issubclass(value, tuple):
                yield _without_docstrings(ast.parse(textwrap.dedent(inspect.getsource(value))))
            elif isinstance(value, constexpr | dtype | int | float | str):
                yield f"{name} = {value!r}"


def _globals_of(tree: ast.AST, names: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every name of the code that is one of the module, also behind a dot; triton's own are of its version."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            value = _value_of(node, names)
            module = getattr(value, "__module__", None) or ""
            own = not isinstance(value, ModuleType) and not module.startswith("triton.language")
            if own or isinstance(value, constexpr):
                yield ast.unparse(node), value


def _value_of(node: ast.AST, names: dict[str, Any]) -> Any:
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = _value_of(node.value, names)
        return getattr(owner, node.attr, None) if isinstance(owner, ModuleType) else None
    return None


def _without_docstrings(tree: ast.Module) -> str:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            node.body = body[1:] or [ast.Pass()]  # type: ignore[attr-defined]
    return ast.unparse(tree)

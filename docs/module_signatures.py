"""Signatures of the loss modules as editors and type checkers see them, made from the functions:
`python docs/module_signatures.py --write` writes contrastive_ops/losses/__init__.pyi."""

from __future__ import annotations

import argparse
import inspect
from pathlib import Path

from contrastive_ops import losses
from contrastive_ops.losses._module import LossModule

STUB = Path(losses.__file__).with_suffix(".pyi")
HEADER = """# Made by docs/module_signatures.py from the signatures of the functions; a test compares.

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from torch import Tensor

from contrastive_ops.losses._common import LossReduction
from contrastive_ops.losses._module import LossModule
"""
Parameter = inspect.Parameter


def stub() -> str:
    exported = {name: getattr(losses, name) for name in losses.__all__}
    sources: dict[str, list[str]] = {}
    for name, value in exported.items():
        if not inspect.isclass(value):
            sources.setdefault(value.__module__, []).append(name)
    imports = [
        f"from {module} import {name} as {name}" for module, names in sorted(sources.items()) for name in sorted(names)
    ]
    classes = [_class(name, value) for name, value in sorted(exported.items()) if inspect.isclass(value)]
    names = "".join(f'    "{name}",\n' for name in losses.__all__)
    relation = "from contrastive_ops.relations import Relation"
    return "\n".join([HEADER + "\n".join([*imports, relation]), "", f"__all__ = [\n{names}]", "", *classes])


def _class(name: str, module: type[LossModule]) -> str:
    function = list(inspect.signature(module.function).parameters.values())
    inputs = [p for p in function if p.kind is not Parameter.KEYWORD_ONLY and p.kind is not Parameter.VAR_KEYWORD]
    settings = list(module.__signature__.parameters.values())
    init = _expanded(_own(module, "__init__"), [], settings, "settings")
    forward = _expanded(_own(module, "forward"), inputs, settings, "given")
    methods = [_method("__init__", init, "None"), _method("forward", forward, "Tensor"), "    __call__ = forward"]
    return "\n".join([f"class {name}(LossModule):", *methods, ""])


def _own(module: type[LossModule], name: str) -> list[Parameter] | None:
    """Parameters of what the class itself defines."""
    method = vars(module).get(name)
    return None if method is None else list(inspect.signature(method).parameters.values())[1:]


def _expanded(
    own: list[Parameter] | None, inputs: list[Parameter], settings: list[Parameter], rest: str
) -> list[Parameter]:
    """All parameters by name, where the class leaves the rest to `**settings` or `**given`."""
    if own is None:
        return inputs + [p.replace(kind=Parameter.KEYWORD_ONLY) if inputs else p for p in settings]
    known = {p.name for p in own}
    by_name = [p.replace(kind=Parameter.KEYWORD_ONLY) for p in settings if p.name not in known]
    if own[-1].kind is Parameter.VAR_KEYWORD and own[-1].name == rest:
        return own[:-1] + by_name
    return own


def _method(name: str, parameters: list[Parameter], result: str) -> str:
    lines, has_star = ["self"], False
    for parameter in parameters:
        has_star |= parameter.kind is Parameter.VAR_POSITIONAL
        if parameter.kind is Parameter.KEYWORD_ONLY and not has_star:
            lines.append("*")
            has_star = True
        lines.append(_parameter(parameter))
    listed = "".join(f"        {line},\n" for line in lines)
    return f"    def {name}(\n{listed}    ) -> {result}: ..."


def _parameter(parameter: Parameter) -> str:
    stars = {Parameter.VAR_POSITIONAL: "*", Parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    annotation = parameter.annotation.replace("'", '"')  # a text, as annotations are postponed
    text = f"{stars}{parameter.name}: {annotation}"
    if parameter.default is Parameter.empty:
        return text
    default = f'"{parameter.default}"' if isinstance(parameter.default, str) else repr(parameter.default)
    return f"{text} = {default}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="into the package, instead of printing")
    if parser.parse_args().write:
        STUB.write_text(stub(), encoding="utf-8")
    else:
        print(stub(), end="")

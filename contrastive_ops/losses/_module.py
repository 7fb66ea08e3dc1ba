"""A loss function as a module."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor, nn


class LossModule(nn.Module):
    """The keyword-only arguments of `function` are the settings of the module; the others are given to its calls.

    A setting that is an `nn.Parameter` (a temperature, say) is trained. A call may override settings by name.
    """

    function: ClassVar[Callable[..., Tensor]]
    __signature__: ClassVar[inspect.Signature]

    def __init_subclass__(cls) -> None:
        every = inspect.signature(cls.function).parameters.values()
        # what `help` shows, and the defaults
        cls.__signature__ = inspect.Signature([p for p in every if p.kind is p.KEYWORD_ONLY])

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        known = self.__signature__.parameters
        if unknown := [name for name in settings if name not in known]:
            name = type(self).__name__
            raise TypeError(f"{name} got unknown settings {', '.join(unknown)}, expected any of {', '.join(known)}")
        for name, parameter in known.items():
            setattr(self, name, settings.get(name, parameter.default))

    def forward(self, *inputs: Any, **given: Any) -> Tensor:
        settings = {name: getattr(self, name) for name in self.__signature__.parameters}
        return type(self).function(*inputs, **(settings | given))

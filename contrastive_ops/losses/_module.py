"""A loss function as a module."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from numbers import Real
from typing import Any, ClassVar

from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor


class LossModule(nn.Module):
    """The keyword-only arguments of `function` are the settings of the module; the others are given to its calls.

    A temperature may be given by position. A setting that is an `nn.Parameter` (a temperature, say) is trained. A call
    may override settings by name.
    """

    function: ClassVar[Callable[..., Tensor]]
    __signature__: ClassVar[inspect.Signature]

    def __init_subclass__(cls) -> None:
        every = inspect.signature(cls.function).parameters.values()
        settings = [p for p in every if p.kind is p.KEYWORD_ONLY]
        first = [p.replace(kind=p.POSITIONAL_OR_KEYWORD) for p in settings if p.name == "temperature"]
        # what `help` shows, and the defaults
        cls.__signature__ = inspect.Signature([*first, *(p for p in settings if p.name != "temperature")])

    def __init__(self, *temperature: Any, **settings: Any) -> None:
        super().__init__()
        known, name = self.__signature__.parameters, type(self).__name__
        if temperature:
            count = f"{len(temperature)} value{'s' * (len(temperature) > 1)}"
            if "temperature" not in known:
                raise TypeError(
                    f"{name} takes settings by name, got {count} by position, expected any of {', '.join(known)}"
                )
            if len(temperature) > 1:
                raise TypeError(f"{name} takes only the temperature by position, got {count}: name the others")
            if "temperature" in settings:
                raise TypeError(f"{name} got two temperatures, {temperature[0]} and {settings['temperature']}")
            settings["temperature"] = temperature[0]
        if unknown := [setting for setting in settings if setting not in known]:
            raise TypeError(f"{name} got unknown settings {', '.join(unknown)}, expected any of {', '.join(known)}")
        for setting, parameter in known.items():
            setattr(self, setting, settings.get(setting, parameter.default))

    def forward(self, *inputs: Any, **given: Any) -> Tensor:
        settings = {name: getattr(self, name) for name in self.__signature__.parameters}
        return type(self).function(*inputs, **(settings | given))

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={_shown(getattr(self, name))}" for name in self.__signature__.parameters)


def _shown(value: object) -> str:
    """A setting on one line."""
    if isinstance(value, Tensor):
        content = _shown_number(value) if value.numel() == 1 else ", ".join(map(str, value.shape))
        return f"{'Parameter' if isinstance(value, nn.Parameter) else 'Tensor'}({content})"
    if isinstance(value, Real):  # NumPy's too, whose `repr` names the type
        return str(value)
    return repr(value) if isinstance(value, (str, tuple, type(None))) else type(value).__name__


def _shown_number(value: Tensor) -> str:
    if value.is_meta or isinstance(value, FakeTensor):  # there is none
        return "meta" if value.is_meta else "fake"
    return f"{value.item():g}"

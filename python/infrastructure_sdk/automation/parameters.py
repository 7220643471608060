"""The typed parameters of runbooks, from Python and from the command line."""

from __future__ import annotations

import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from infrastructure_sdk import _bridge
from infrastructure_sdk.automation.refusal import refused
from infrastructure_sdk.exceptions import ValidationError

__all__ = ["Parameter", "bind", "parameters_of"]

_SIMPLE = (str, int, float, bool, timedelta)
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True)
class Parameter:
    """One parameter.

    Attributes
    ----------
    kind
        One of str, int, float, bool, timedelta; of a list, of its items.
    choices
        The texts of a ``Literal``; empty = any.
    """

    name: str
    kind: type
    choices: tuple[str, ...]
    many: bool
    optional: bool
    required: bool
    default: Any
    secret: bool

    @property
    def type_name(self) -> str:
        """The type for people, e.g. ``int`` or ``red|green``."""
        one = "|".join(self.choices) or {"timedelta": "duration"}.get(self.kind.__name__, self.kind.__name__)
        return f"list of {one}" if self.many else one

    def to_dict(self) -> dict[str, Any]:
        """What it is, for people and programs."""
        default = None if self.required or self.secret else self.default
        shown = str(default) if isinstance(default, timedelta) else default
        return {"name": self.name, "type": self.type_name, "required": self.required, "default": shown}


def parameters_of(function: Callable[..., Any], secret: frozenset[str]) -> tuple[Parameter, ...]:
    """The parameters of a runbook after ``sdk``.

    Raises
    ------
    ValidationError
        If one has no type hint or a type that cannot be given, or a secret one is none.
    """
    try:
        hints = typing.get_type_hints(function)
    except NameError as error:
        raise refused("parameters", function.__name__, f"types that are known where it is defined ({error})") from None
    found = []
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise refused("parameters", parameter.name, "parameters that have a name")
        if parameter.name not in hints:
            raise refused("parameters", parameter.name, "a parameter with a type hint")
        kind, choices, many, optional = _understood(parameter.name, hints[parameter.name])
        required = parameter.default is parameter.empty
        default = None if required else parameter.default
        hidden = parameter.name in secret
        found.append(Parameter(parameter.name, kind, choices, many, optional, required, default, hidden))
    if unknown := secret - {parameter.name for parameter in found}:
        raise refused("secret", sorted(unknown), "names of its parameters")
    return tuple(found)


def bind(parameters: tuple[Parameter, ...], values: Mapping[str, Any]) -> dict[str, Any]:
    """Values for every parameter; texts are read as its type.

    Raises
    ------
    ValidationError
        If one is missing, unknown, or not of its type. The value of a secret one is not in the message.
    """
    known = {parameter.name: parameter for parameter in parameters}
    if unknown := sorted(values.keys() - known.keys()):
        raise refused(unknown[0], "it", "one of " + (", ".join(known) or "no parameters"))
    bound: dict[str, Any] = {}
    for name, parameter in known.items():
        if name in values:
            bound[name] = _read(parameter, values[name])
        elif parameter.required:
            raise refused(name, None, f"a value ({parameter.type_name})")
        else:
            bound[name] = parameter.default
    return bound


def _understood(name: str, hint: Any) -> tuple[type, tuple[str, ...], bool, bool]:
    optional = many = False
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        arms = [arm for arm in typing.get_args(hint) if arm is not type(None)]
        optional = len(arms) < len(typing.get_args(hint))
        hint = arms[0] if len(arms) == 1 else None
    if typing.get_origin(hint) is list:
        many, (hint,) = True, typing.get_args(hint)
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        if all(isinstance(choice, str) for choice in choices):
            return str, choices, many, optional
    if hint not in _SIMPLE:
        allowed = "str, int, float, bool, timedelta, Literal of texts, a list of them, or one of them | None"
        raise refused("parameters", name, allowed)
    return hint, (), many, optional


def _read(parameter: Parameter, value: Any) -> Any:
    if value is None and parameter.optional:
        return None
    if not parameter.many:
        return _read_one(parameter, value)
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        raise _wrong(parameter, value)
    return [_read_one(parameter, item) for item in items]


def _read_one(parameter: Parameter, value: Any) -> Any:
    kind = parameter.kind
    try:
        if kind is bool:
            if isinstance(value, str):
                return _TRUTH[value.lower()]
        elif kind is timedelta:
            if not isinstance(value, timedelta):
                return timedelta(seconds=_bridge.seconds(value))
        elif isinstance(value, str) and kind is not str:
            value = kind(value)
        elif kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
    except (ValueError, KeyError, TypeError, OverflowError):
        raise _wrong(parameter, value) from None
    if isinstance(value, float) and not math.isfinite(value):
        raise _wrong(parameter, value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise _wrong(parameter, value)
    if parameter.choices and value not in parameter.choices:
        raise _wrong(parameter, value)
    return value


def _wrong(parameter: Parameter, value: Any) -> ValidationError:
    return refused(parameter.name, "***" if parameter.secret else value, parameter.type_name)

"""Judges a bound value against a parameter's annotation, as far as plain types go."""

import collections.abc
import dataclasses
import inspect
import types
import typing
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True)
class Reference:
    """A value that is not a literal: `@target` or, when `evaluated`, what `@target()` returns."""

    target: Callable[..., Any]
    evaluated: bool

    def __repr__(self) -> str:
        return f"@{self.target.__qualname__}{'()' if self.evaluated else ''}"


def annotations(function: Callable[..., Any]) -> dict[str, Any]:
    """Parameter name to annotation, of a function or of a class's constructor.

    Annotations that cannot be resolved (they name what is imported for type checkers only) are left
    out: what they say is not known here.
    """
    target = function.__init__ if inspect.isclass(function) else inspect.unwrap(function)
    try:
        return typing.get_type_hints(target)
    except (NameError, TypeError, AttributeError):
        own = getattr(target, "__annotations__", {})
        return {name: hint for name, hint in own.items() if not isinstance(hint, str)}


def fits(value: Any, hint: Any) -> bool:
    """Whether `value` may be passed where `hint` is annotated.

    An int is a float, as in typing; a bool is no int, and a str no sequence, as users mean them.
    What a hint says beyond Any, unions, None, Literal, classes and the standard containers is not
    judged, and fits.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, option) for option in arguments)
    if isinstance(value, Reference):
        return _reference_fits(value, hint)
    if origin is typing.Literal:
        return any(value == choice and type(value) is type(choice) for choice in arguments)
    if origin is not None:
        return _container_fits(value, origin, arguments)
    if hint is None or hint is type(None):
        return value is None
    if not _judged(hint):
        return True
    if isinstance(value, bool):
        return hint is not int and isinstance(value, hint)
    return isinstance(value, (float, int) if hint is float else hint)


def shown(hint: Any) -> str:
    """An annotation as its author wrote it, near enough: `int | None`."""
    if hint is type(None):
        return "None"
    if inspect.isclass(hint) and not typing.get_args(hint):
        return hint.__name__
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " | ".join(shown(option) for option in typing.get_args(hint))
    return str(hint).replace("typing.", "").replace("collections.abc.", "")


def _container_fits(value: Any, origin: Any, arguments: tuple[Any, ...]) -> bool:
    if origin is collections.abc.Callable or not inspect.isclass(origin):
        return not isinstance(value, (str, int, float, list, tuple, dict, type(None)))
    if isinstance(value, str) or not isinstance(value, origin):
        return False
    if isinstance(value, dict) and len(arguments) == 2:
        return all(fits(k, arguments[0]) and fits(v, arguments[1]) for k, v in value.items())
    if isinstance(value, tuple) and origin is tuple and arguments[-1:] != (...,):
        pairs = zip(value, arguments, strict=False)
        return len(value) == len(arguments) and all(fits(v, hint) for v, hint in pairs)
    if isinstance(value, (list, tuple, set)) and arguments:
        return all(fits(item, arguments[0]) for item in value)
    return True


def _reference_fits(value: Reference, hint: Any) -> bool:
    if hint is None or hint is type(None):
        return False
    if typing.get_origin(hint) is not None or not _judged(hint):
        return True
    if not value.evaluated:
        return isinstance(value.target, hint)
    return not inspect.isclass(value.target) or issubclass(value.target, hint)


def _judged(hint: Any) -> bool:
    """Whether `hint` is a class that `isinstance` can be asked about without surprise."""
    return inspect.isclass(hint) and hint is not Any and not getattr(hint, "_is_protocol", False)

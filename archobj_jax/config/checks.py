"""Finds, before anything runs, what gin would only notice late or never."""

import collections.abc
import inspect
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gin import config as gin_config

from archobj_jax.config.statements import MACRO, Key, Reader
from archobj_jax.config.values import Reference, annotations, fits, shown
from archobj_jax.errors import UserError, did_you_mean

_CONSTANT = "gin.constant"
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class _CycleError(Exception):
    """Macros that stand for one another."""


class _UnsetError(Exception):
    """A value rests on a macro that is not set."""


def check_types(places: Mapping[Key, str]) -> None:
    """Raises `UserError` for the first binding whose value does not fit the annotation."""
    for key, bound in _bindings():
        if key[1] == MACRO:
            continue
        function = gin_config._REGISTRY[key[1]].wrapped
        hint = annotations(function).get(key[2], Any)
        try:
            value = _literal(bound)
        except _UnsetError:
            continue
        except _CycleError as error:
            raise UserError(f"{places[key]}: {_shown(key)} stands for itself: {error}.") from None
        if fits(value, hint):
            continue
        macro = _macro(bound)
        source = f" ({places[macro, MACRO, 'value']})" if macro else ""
        raise UserError(
            f"{places[key]}: {_shown(key)} is {value!r}{source}; "
            f"expected {shown(hint)}.{_advice(value, hint)}"
        )


def check_scopes(places: Mapping[Key, str]) -> None:
    """Raises `UserError` for the first binding in a scope that no reference opens."""
    opened = {
        "/".join(reference.scopes[:depth])
        for _, bound in _bindings()
        for reference in _references(bound)
        for depth in range(1, len(reference.scopes) + 1)
    }
    for key, place in places.items():
        scope, selector, _ = key
        if scope and selector != MACRO and scope not in opened:
            hint = did_you_mean(scope, opened)
            raise UserError(f"{place}: nothing opens the scope '{scope}' of {_shown(key)}.{hint}")


def check_set(
    configurable: gin_config.Configurable, arguments: Mapping[str, Any], places: Mapping[Key, str]
) -> None:
    """Raises `UserError` that lists all that must be set before the call with `arguments`."""
    use = _Use(places)
    use.visit(configurable.selector, [], arguments)
    if use.missing:
        names = ", ".join(use.missing)
        verb = "is" if len(use.missing) == 1 else "are"
        flags = " ".join(f"--gin.{name}=…" for name in use.missing)
        notes = ", ".join(dict.fromkeys(use.missing.values()))
        raise UserError(f"{names} {verb} required: give {flags} ({notes}).")


def check_flags(functions: Sequence[gin_config.Configurable], reader: Reader) -> None:
    """Raises `UserError` for the first flag that binds what none of `functions` will use."""
    use = _Use(reader.places)
    for function in functions:
        use.visit(function.selector, [], None)
    for key, flag in reader.flags.items():
        if key[1] != MACRO and key not in use.reached:
            raise UserError(
                f"{flag}: {functions[0].name} does not use {_shown(key)}, so it would do nothing."
                + did_you_mean(_shown(key), map(_shown, use.reached), count=1)
            )


@dataclass
class _Use:
    """Walks what a call will reach, in the scopes that gin will have open there.

    Attributes:
        places: where each binding stands.
        reached: the bindings that the call reads.
        missing: what must be set first, by the name a flag gives it, with a note on who asks.
    """

    places: Mapping[Key, str]
    reached: set[Key] = field(default_factory=set)
    missing: dict[str, str] = field(default_factory=dict)
    _seen: set[tuple[str, str]] = field(default_factory=set)

    def visit(
        self, selector: str, scopes: Sequence[str], arguments: Mapping[str, Any] | None
    ) -> None:
        """Visits one function in `scopes`.

        Args:
            selector: gin's name of the function.
            scopes: the open scopes, outermost first; inner ones override outer ones.
            arguments: what the caller passes; None if it is our code's to decide, later.
        """
        if ("/".join(scopes), selector) in self._seen:
            return
        self._seen.add(("/".join(scopes), selector))
        bound: dict[str, tuple[Key, Any]] = {}
        for depth in range(len(scopes) + 1):
            scope = "/".join(scopes[:depth])
            for name, value in gin_config._CONFIG.get((scope, selector), {}).items():
                bound[name] = ((scope, selector, name), value)
        self.reached.update(key for key, _ in bound.values())
        if arguments is not None:
            self._require(("/".join(scopes), selector), {*bound, *arguments})
        for name, (key, value) in bound.items():
            if name not in (arguments or {}):
                self._follow(key, value, scopes)

    def _require(self, function: tuple[str, str], given: set[str]) -> None:
        parameters = inspect.signature(gin_config._REGISTRY[function[1]].wrapped).parameters
        for name, parameter in parameters.items():
            optional = parameter.default is not parameter.empty
            if name not in given and not optional and parameter.kind not in _VARIADIC:
                self.missing[_shown((*function, name))] = "no gin file binds it"

    def _follow(self, key: Key, value: Any, scopes: Sequence[str]) -> None:
        """Visits what the value of binding `key` refers to."""
        for reference in _references(value):
            selector = reference.configurable.selector
            if selector == MACRO:
                self._follow_macro(reference, self.places.get(key, ""))
            elif selector == _CONSTANT:
                if reference.scoped_configurable_fn() is gin_config.REQUIRED:
                    name = key[0] if key[1] == MACRO else _shown(key)
                    self.missing[name] = f"left open in {self.places[key]}"
            else:
                arguments: dict[str, Any] | None = {} if reference.evaluate else None
                self.visit(selector, reference.scopes or scopes, arguments)

    def _follow_macro(self, reference: gin_config.ConfigurableReference, place: str) -> None:
        name = "/".join(reference.scopes)
        if (name, MACRO) in self._seen:
            return
        self._seen.add((name, MACRO))
        bound = gin_config._CONFIG.get((name, MACRO))
        if bound is None:
            defined = {scope for scope, selector in gin_config._CONFIG if selector == MACRO}
            self.missing[name] = f"read in {place} but set nowhere.{did_you_mean(name, defined)}"
            return
        self._follow((name, MACRO, "value"), bound["value"], reference.scopes)


def _bindings() -> Iterator[tuple[Key, Any]]:
    for (scope, selector), parameters in gin_config._CONFIG.items():
        for name, value in parameters.items():
            yield (scope, selector, name), value


def _references(value: Any) -> Iterator[gin_config.ConfigurableReference]:
    if isinstance(value, gin_config.ConfigurableReference):
        yield value
    elif isinstance(value, Mapping):
        yield from _references([*value.keys(), *value.values()])
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _references(item)


def _literal(value: Any, within: tuple[str, ...] = ()) -> Any:
    """The value with macros replaced by what they stand for, other references by `Reference`."""
    if isinstance(value, Mapping):
        return {_literal(k, within): _literal(v, within) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_literal(item, within) for item in value)
    if not isinstance(value, gin_config.ConfigurableReference):
        return value
    selector = value.configurable.selector
    if selector == _CONSTANT:
        constant = value.scoped_configurable_fn()
        if constant is gin_config.REQUIRED:
            raise _UnsetError
        return constant
    if selector != MACRO:
        return Reference(value.configurable.wrapped, value.evaluate)
    name = "/".join(value.scopes)
    if name in within:
        raise _CycleError(" = ".join(f"%{macro}" for macro in (*within, name)))
    bound = gin_config._CONFIG.get((name, MACRO))
    if bound is None:
        raise _UnsetError
    return _literal(bound["value"], (*within, name))


def _macro(value: Any) -> str:
    """The name of the macro that `value` is, or an empty string."""
    if isinstance(value, gin_config.ConfigurableReference) and value.configurable.selector == MACRO:
        return "/".join(value.scopes)
    return ""


def _shown(key: Key) -> str:
    """A binding as a flag names it: `scope/module.function.parameter`."""
    scope, selector, parameter = key
    ending = ".".join(selector.split(".")[-2:])
    return f"{scope}/{ending}.{parameter}" if scope else f"{ending}.{parameter}"


def _advice(value: Any, hint: Any) -> str:
    if isinstance(value, Reference) and not value.evaluated:
        return f" Write {value!r}() to pass what it returns."
    if hint is bool and isinstance(value, str):
        return " Write True or False."
    if hint is str:
        return " Put quotes within quotes: --gin.NAME='\"…\"'."
    if typing.get_origin(hint) is collections.abc.Sequence and isinstance(value, (str, int)):
        return f" A tuple of one has a comma: ({value!r},)."
    if typing.get_origin(hint) is collections.abc.Mapping and isinstance(value, dict):
        items = typing.get_args(hint)[1:]
        found = (_advice(each, items[0]) for each in value.values() if not fits(each, items[0]))
        return next(found, "")
    if typing.get_origin(hint) is typing.Literal:
        return did_you_mean(str(value), map(str, typing.get_args(hint)))
    return ""

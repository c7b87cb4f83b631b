"""The filters and tests that a template may use: most of Jinja's, and PromptSource's three.

Left out are those that make markup or pad, and those that reach for attributes by name.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jinja2 import defaults, pass_context

from archobj_jax.prompts import operations
from archobj_jax.prompts.budget import RefusedError

Filter = Callable[..., Any]

_FILTERS = (
    *("abs", "capitalize", "count", "d", "default", "dictsort", "first", "float", "format"),
    *("int", "items", "join", "last", "length", "list", "lower", "map", "max", "min"),
    *("reject", "rejectattr", "replace", "reverse", "round", "select", "selectattr", "sort"),
    *("string", "sum", "title", "trim", "truncate", "unique", "upper", "wordcount"),
)
_TESTS = (
    *("boolean", "defined", "divisibleby", "even", "false", "float", "in", "integer", "iterable"),
    *("lower", "mapping", "none", "number", "odd", "sameas", "sequence", "string", "true"),
    *("undefined", "upper", "==", "eq", "equalto", "!=", "ne", ">", "gt", "greaterthan"),
    *(">=", "ge", "<", "lt", "lessthan", "<=", "le"),
)
_READINGS_OF_SORTING = 8
"""How often sorting reads each item, about."""


def filters() -> dict[str, Filter]:
    """Returns the filters by name; each wants the context of a `Budget` before its arguments."""
    chosen = {name: _with_context(defaults.DEFAULT_FILTERS[name]) for name in _FILTERS}
    checked = {
        "float": _number,
        "format": _format,
        "int": _number,
        "join": _join,
        "replace": _replace,
        "round": _round,
        "sum": _sum,
        "trim": _trim,
    }
    for name, check in checked.items():
        chosen[name] = _checked(check, chosen[name])
    for name in ("sort", "dictsort"):
        chosen[name] = _sorting(chosen[name])
    chosen |= {"highlight": _highlight, "most_frequent": _most_frequent}
    chosen |= {"choice": _choice, "random": _choice}
    return {name: _paying(function) for name, function in chosen.items()}


def tests() -> dict[str, Filter]:
    """Returns the tests (`x is name`) by name, as `filters` does."""
    return {name: _paying(_with_context(defaults.DEFAULT_TESTS[name])) for name in _TESTS}


def _paying(function: Filter) -> Filter:
    @pass_context
    def operation(context: Any, *args: Any, **kwargs: Any) -> Any:
        budget = context.budget
        for value in args:
            budget.charge(value)
        for value in kwargs.values():
            budget.charge(value)
        return budget.made(function(context, *args, **kwargs))

    return operation


def _with_context(function: Any) -> Filter:
    """Returns one of Jinja's filters or tests as a function of the context and its arguments."""
    wants = getattr(getattr(function, "jinja_pass_arg", None), "name", None)
    if wants == "context":
        return function
    if wants == "eval_context":
        return lambda context, *args, **kwargs: function(context.eval_ctx, *args, **kwargs)
    if wants == "environment":
        return lambda context, *args, **kwargs: function(context.environment, *args, **kwargs)
    return lambda _, *args, **kwargs: function(*args, **kwargs)


def _checked(check: Any, function: Filter) -> Filter:
    """Returns `function` with its first argument replaced by what `check` makes of all of them."""

    def operation(context: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
        return function(context, check(value, *args, **kwargs), *args, **kwargs)

    return operation


def _sorting(function: Filter) -> Filter:
    def operation(context: Any, items: Any, *args: Any, **kwargs: Any) -> Any:
        items = items if isinstance(items, Mapping) else list(items)
        for _ in range(_READINGS_OF_SORTING):
            context.budget.charge(items)
        return function(context, items, *args, **kwargs)

    return operation


def _format(text: Any, *args: Any, **kwargs: Any) -> str:
    operations.check_format(str(text), kwargs or args)
    return str(text)


def _join(items: Any, d: Any = "", attribute: Any = None) -> list[Any]:
    del attribute
    items = list(items)
    operations.check_join(str(d), items)
    return items


def _replace(s: Any, old: Any, new: Any, count: Any = None) -> str:
    del count
    operations.check_replace(str(s), str(old), str(new))
    return str(s)


def _number(value: Any, default: Any = 0, base: Any = 10) -> Any:
    del default, base
    if isinstance(value, str) and len(value) > operations.MAX_DIGITS:
        raise RefusedError(f"reads a number of {len(value):,} digits")
    return value


def _trim(value: Any, chars: Any = None) -> Any:
    operations.check_strip(str(chars or ""))
    return value


def _round(value: Any, precision: int = 0, method: str = "common") -> Any:
    del method
    if abs(precision) > operations.MAX_DIGITS:
        raise RefusedError(f"rounds to more than {operations.MAX_DIGITS} digits")
    return value


def _sum(iterable: Any, attribute: Any = None, start: Any = 0) -> Any:
    del attribute
    if not isinstance(start, int | float):
        raise RefusedError("adds up what are not numbers")
    return iterable


def _highlight(_: Any, text: str) -> str:
    return "<span style='color: #F08080'>" + text + "</span>"


def _choice(context: Any, items: Sequence[Any]) -> Any:
    return items[int(context.budget.rng.integers(len(items)))]


def _most_frequent(_: Any, items: Sequence[Any]) -> list[Any] | None:
    """Returns the items that occur most often, in order of their first occurrence."""
    if not items:
        return None
    counts = Counter(items)
    most = max(counts.values())
    return [item for item, count in counts.items() if count == most]

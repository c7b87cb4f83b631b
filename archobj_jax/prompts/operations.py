"""What a template may call and calculate: functions, methods, operators, loops.

What is not listed here does not exist for a template. Each operation pays for what it reads and
makes; one whose result may be far larger than what it reads checks that before it makes it.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jinja2
from jinja2 import pass_context, runtime, sandbox, utils

from archobj_jax.prompts.budget import Budget, RefusedError, check_bits, check_size, size

Operation = Callable[..., Any]

FUNCTIONS: dict[str, Operation] = {
    "dict": dict,
    "namespace": utils.Namespace,
    "range": sandbox.safe_range,  # of at most 100,000 numbers
    "zip": zip,
}
"""The global functions, by name."""

METHODS: dict[type, frozenset[str]] = {
    str: frozenset(
        {"capitalize", "casefold", "count", "endswith", "find", "index", "isalpha", "isdigit"}
        | {"islower", "isnumeric", "isspace", "istitle", "isupper", "join", "lower", "lstrip"}
        | {"partition", "removeprefix", "removesuffix", "replace", "rstrip", "split"}
        | {"splitlines", "startswith", "strip"}
        | {"swapcase", "title", "upper"}
    ),
    list: frozenset(
        {"append", "copy", "count", "extend", "index", "insert", "pop", "remove", "reverse"}
    ),
    tuple: frozenset({"count", "index"}),
    dict: frozenset({"copy", "get", "items", "keys", "pop", "setdefault", "update", "values"}),
}
"""The methods, by the type of what they are called on. Searching from the right is not among them:
Python does it in time that grows with the product of the lengths."""

LOOP_ATTRIBUTES = frozenset(
    {"changed", "cycle", "depth", "depth0", "first", "index", "index0", "last", "length"}
    | {"nextitem", "previtem", "revindex", "revindex0"}
)
"""The attributes of `loop`."""

MAX_DIGITS = 999
"""The largest width or precision when formatting or rounding; digits read; characters stripped."""

# A width or precision of four digits or more, and one that is taken from the arguments.
_WIDE = re.compile(r"(?<!\d)\d{4,}+(?:\.\d*+)?[hlL]?[a-zA-Z%]|%[#0\- +]*+(?:\d*+\.)?\*")

_COMPARING = frozenset({"count", "index", "remove"})
"""Methods that read the items of a list or tuple; the others only move them."""


@pass_context
def guard(context: Any, value: Any) -> Any:
    """Pays for an operation on `value` that Jinja compiles to plain Python; returns `value`."""
    context.budget.charge(value)
    return value


@pass_context
def each(context: Any, items: Any, units: int) -> Iterator[Any]:
    """Returns an iterator over `items` that pays `units`, those of a loop's body, for each."""
    if units < 1:  # `syntax` gives more; a template may name this filter in `map`
        raise RefusedError("loops for nothing")
    return context.budget.each(items, units)


def call(context: Any, function: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Calls what a template calls, if it may.

    Raises:
      jinja2.exceptions.SecurityError: it may not.
      RefusedError: it costs too much.
    """
    budget = context.budget
    for value in (*args, *kwargs.values()):
        budget.charge(value)
    owner, name = getattr(function, "__self__", None), getattr(function, "__name__", "")
    if name in METHODS.get(type(owner), ()):
        args = _before_method(budget, owner, name, args)
    elif isinstance(owner, runtime.LoopContext):
        if name not in LOOP_ATTRIBUTES:
            raise sandbox.SecurityError(f"calls loop.{name}(), which it may not")
    elif not isinstance(function, jinja2.Undefined) and not any(  # Undefined raises, with its name
        function is allowed for allowed in FUNCTIONS.values()
    ):
        raise sandbox.SecurityError(f"calls {name or type(function).__name__}(), which it may not")
    return budget.made(function(*args, **kwargs))


def binary(context: Any, symbol: str, left: Any, right: Any) -> Any:
    """Returns `left symbol right`, with `symbol` one of + - * / // % **.

    Raises:
      RefusedError: it costs too much.
    """
    budget = context.budget
    budget.charge(left)
    budget.charge(right)
    if symbol == "*":
        _check_product(left, right)
    elif symbol == "**" and isinstance(left, int) and isinstance(right, int):
        check_bits(left.bit_length() * max(right, 0))
    elif symbol == "%" and isinstance(left, str):
        check_format(left, right)
    operate = sandbox.SandboxedEnvironment.default_binop_table[symbol]
    return budget.made(operate(left, right))


def check_replace(text: str, old: str, new: str) -> None:
    """Raises RefusedError if `text` becomes too large with `new` for each `old`."""
    check_size(len(text) + text.count(old) * max(len(new) - len(old), 0))


def check_join(separator: str, items: list[Any]) -> None:
    """Raises RefusedError if `items`, joined, are too large."""
    check_size(size(items) + len(separator) * len(items))


def check_strip(characters: str) -> None:
    """Raises RefusedError if so many characters, each looked for in these, would take long."""
    if len(characters) > MAX_DIGITS:
        raise RefusedError(f"strips any of {len(characters):,} characters (> {MAX_DIGITS})")


def check_format(text: str, values: Any) -> None:
    """Raises RefusedError if `text % values` may be too large."""
    if _WIDE.search(text):
        raise RefusedError(f"formats to a width above {MAX_DIGITS}")
    check_size(len(text) + text.count("%") * (MAX_DIGITS + size(values)))


def _before_method(budget: Budget, owner: Any, name: str, args: Sequence[Any]) -> Sequence[Any]:
    """Pays for a method's work on its owner and checks its result; returns its arguments."""
    if name in _COMPARING:
        budget.charge(owner)
    else:
        budget.charge_length(owner)
    if type(owner) is str and name == "replace" and len(args) > 1:
        check_replace(owner, str(args[0]), str(args[1]))
    if name in ("strip", "lstrip", "rstrip") and args:
        check_strip(str(args[0] or ""))
    if type(owner) is str and name == "join" and args:
        args = (list(args[0]),)
        check_join(owner, args[0])
    return args


def _check_product(left: Any, right: Any) -> None:
    if isinstance(right, int):
        left, right = right, left
    if isinstance(left, int) and isinstance(right, int):
        check_bits(left.bit_length() + right.bit_length())
    elif isinstance(left, int) and isinstance(right, str | list | tuple):
        check_size((size(right) + 1) * max(left, 0))

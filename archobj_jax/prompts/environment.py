"""The Jinja environment of prompts: a sandbox in which a template reads values and writes text.

A rendering cannot reach Python's attributes, call what is not listed in `operations`, loop without
paying its `Budget` or make a value larger than `budget.SIZE_LIMIT`. It ends within about a second
of work, counted and not timed, in the process that asked for it.
"""

import functools
from collections.abc import Mapping
from typing import Any, NoReturn

import jinja2
import numpy as np
from jinja2 import runtime, sandbox, utils

from archobj_jax.prompts import filters, operations, syntax
from archobj_jax.prompts.budget import Budget, check_size


class _Context(runtime.Context):
    """The variables of one rendering, and its budget."""

    budget: Budget


class PromptEnvironment(sandbox.SandboxedEnvironment):
    """Jinja with the operations of `operations` and `filters`, each of which pays."""

    context_class = _Context
    intercepted_binops = frozenset(sandbox.SandboxedEnvironment.default_binop_table)

    def __init__(self) -> None:
        super().__init__(cache_size=0)
        self.globals = dict(operations.FUNCTIONS)
        self.filters: dict[str, Any] = filters.filters()
        self.filters |= {syntax.GUARD: operations.guard, syntax.EACH: operations.each}
        self.tests: dict[str, Any] = filters.tests()

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Returns whether a template may see `obj.attr`."""
        del value
        if isinstance(obj, runtime.LoopContext):
            return attr in operations.LOOP_ATTRIBUTES
        if isinstance(obj, utils.Namespace):
            return not attr.startswith("_")
        return attr in operations.METHODS.get(type(obj), ())

    def unsafe_undefined(self, obj: Any, attribute: str) -> NoReturn:
        """Refuses an attribute at once, not only when it is used."""
        raise sandbox.SecurityError(
            f"reaches for the attribute '{attribute}' of {type(obj).__name__}"
        )

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Returns `left operator right`."""
        return operations.binary(context, operator, left, right)

    def call(  # Jinja's signature: the template's own keywords may have any name
        __self,  # noqa: N805
        __context: Any,
        __obj: Any,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Calls `__obj`."""
        for name in ("_loop_vars", "_block_vars"):  # Jinja's own, for functions that take a context
            kwargs.pop(name, None)
        return operations.call(__context, __obj, args, kwargs)


@functools.cache
def environment() -> PromptEnvironment:
    """Returns the environment, made once a process."""
    return PromptEnvironment()


@functools.lru_cache(maxsize=8192)
def compiled(source: str, *, cut: bool = False) -> jinja2.Template:
    """Returns `source`, checked and compiled.

    Args:
      source: a template.
      cut: whether what it prints is cut, as `syntax.cut` says.

    Raises:
      jinja2.TemplateSyntaxError: it is not Jinja.
      RefusedError: it is too long or uses what prompts may not.
    """
    syntax.check_length(source)
    text = syntax.cut(source, environment()) if cut else source
    return environment().from_string(syntax.guarded(syntax.parse(text, environment())))


def check(source: str) -> None:
    """Raises as `compiled` does, without compiling."""
    syntax.check_length(source)
    syntax.parse(source, environment())


@functools.lru_cache(maxsize=8192)
def fields(source: str) -> syntax.Fields:
    """Returns the fields that a template reads; raises as `compiled` does."""
    syntax.check_length(source)
    return syntax.fields(syntax.parse(source, environment()), environment())


def render(
    template: jinja2.Template, variables: Mapping[str, Any], rng: np.random.Generator
) -> str:
    """Returns what a `compiled` template writes.

    Args:
      template: as `compiled` returns it.
      variables: plain values (`values.plain`) by name; the template may change those that are lists
        and dictionaries.
      rng: for the filters `choice` and `random`.

    Raises:
      RefusedError, jinja2.TemplateError, or what the template's operations raise.
    """
    context: Any = template.new_context(dict(variables))
    context.budget = Budget(rng)
    written, parts = 0, []
    for part in template.root_render_func(context):
        written += len(part)
        check_size(written)
        parts.append(part)
    return "".join(parts)

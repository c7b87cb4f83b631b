"""A template's syntax: what it may consist of, where it must pay, and which fields it reads."""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

from jinja2 import Environment, meta, nodes
from jinja2.visitor import NodeTransformer

from archobj_jax.errors import did_you_mean
from archobj_jax.prompts.budget import RefusedError

MAX_SOURCE = 1 << 15
"""Characters of a template (the longest of PromptSource's has 2,849)."""

MAX_NODES = 8192
"""Nodes of its syntax tree."""

FIELD_CHARACTERS = 2048
"""Characters that a printed value is cut to."""

GUARD, EACH = " guard", " each"
"""Filters put in by `guarded`; their blanks keep them out of templates' reach."""

_ALLOWED: tuple[type[nodes.Node], ...] = (
    *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.For, nodes.If, nodes.Assign),
    *(nodes.Name, nodes.NSRef, nodes.Const, nodes.List, nodes.Tuple, nodes.Dict, nodes.Pair),
    *(nodes.Keyword, nodes.Call, nodes.Filter, nodes.Test, nodes.Getattr, nodes.Getitem),
    *(nodes.Slice, nodes.CondExpr, nodes.Compare, nodes.Operand, nodes.Concat),
    *(nodes.And, nodes.Or, nodes.Not, nodes.Neg, nodes.Pos),
    *(nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod, nodes.Pow),
)
_NODES_A_UNIT = 8
_ASKING = frozenset({"default", "d", "defined", "undefined"})


class Fields(NamedTuple):
    """The variables that a template reads and does not set first.

    Attributes:
      read: all of them.
      required: those that are not set anywhere in it nor asked for by `is defined` or `default`.
    """

    read: frozenset[str]
    required: frozenset[str]


def cut(source: str, environment: Environment) -> str:
    """Returns `source` with each `{{ … }}` cut to 2,048 characters, as PromptSource renders it.

    PromptSource puts `| string | truncate(2048)` before each `}}`; as there, it binds to the last
    operand alone.
    """
    cutting = f" | string | truncate({FIELD_CHARACTERS}) "
    return "".join(
        cutting + text if kind == "variable_end" else text
        for _, kind, text in environment.lex(source)
    )


def check_length(source: str) -> None:
    """Raises RefusedError if `source` is longer than a template may be."""
    if len(source) > MAX_SOURCE:
        raise RefusedError(f"has {len(source):,} characters (> {MAX_SOURCE:,})")


def parse(source: str, environment: Environment) -> nodes.Template:
    """Returns the syntax tree of `source`.

    Raises:
      jinja2.TemplateSyntaxError: it is not Jinja.
      RefusedError: it is too large, or uses what prompts may not.
    """
    tree = environment.parse(source)
    for count, node in enumerate(_walk(tree), start=1):
        if count > MAX_NODES:
            raise RefusedError(f"has more than {MAX_NODES:,} parts")
        _check(node, environment)
    return tree


def fields(tree: nodes.Template, environment: Environment) -> Fields:
    """Returns the variables that `tree`, as `parse` returns it, takes from its example."""
    read = meta.find_undeclared_variables(tree) - environment.globals.keys()
    known = {node.name for node in tree.find_all(nodes.Name) if node.ctx == "store"}
    for node in tree.find_all((nodes.Filter, nodes.Test)):
        if isinstance(node.node, nodes.Name) and node.name in _ASKING:
            known.add(node.node.name)
    return Fields(frozenset(read), frozenset(read - known))


def guarded(tree: nodes.Template) -> nodes.Template:
    """Returns `tree`, changed so that every loop and every operation pays the rendering's budget.

    Filters, tests, calls and operators pay by themselves (`operations`, `filters`). What is left,
    because Jinja compiles it to plain Python, are loops, comparisons, printing, `~`, slices and
    keys.
    """
    return _Guards().visit(tree)


def _walk(node: nodes.Node) -> Iterator[nodes.Node]:
    pending = [node]
    while pending:
        node = pending.pop()
        yield node
        pending.extend(node.iter_child_nodes())


def _check(node: nodes.Node, environment: Environment) -> None:
    if not isinstance(node, _ALLOWED):
        raise RefusedError(f"uses '{type(node).__name__.lower()}' (line {node.lineno})")
    if isinstance(node, nodes.For) and node.recursive:
        raise RefusedError(f"uses a recursive loop (line {node.lineno})")
    if isinstance(node, nodes.Getattr) and node.attr.startswith("_"):
        raise RefusedError(f"reaches for the attribute '{node.attr}' (line {node.lineno})")
    for kind, known in ((nodes.Filter, environment.filters), (nodes.Test, environment.tests)):
        if isinstance(node, kind) and node.name not in known:
            raise RefusedError(
                f"uses the {kind.__name__.lower()} '{node.name}' (line {node.lineno})."
                f"{did_you_mean(node.name, known)}"
            )


class _Guards(NodeTransformer):
    def visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> Any:
        return _paying(self.generic_visit(node, *args, **kwargs))


@functools.singledispatch
def _paying(node: nodes.Node) -> nodes.Node:
    return node


@_paying.register
def _(node: nodes.For) -> nodes.Node:
    units = 1 + sum(1 for _ in _walk(node)) // _NODES_A_UNIT
    node.iter = _filter(node.iter, EACH, [nodes.Const(units)])
    return node


@_paying.register
def _(node: nodes.Output | nodes.Concat) -> nodes.Node:
    node.nodes = [_guard(child) for child in node.nodes]
    return node


@_paying.register
def _(node: nodes.Compare) -> nodes.Node:
    node.expr = _guard(node.expr)
    for operand in node.ops:
        operand.expr = _guard(operand.expr)
    return node


@_paying.register
def _(node: nodes.Getitem) -> nodes.Node:
    if isinstance(node.arg, nodes.Slice):
        node.node = _guard(node.node)
    else:
        node.arg = _guard(node.arg)
    return node


@_paying.register
def _(node: nodes.Pair) -> nodes.Node:
    node.key = _guard(node.key)
    return node


@_paying.register
def _(node: nodes.Tuple) -> nodes.Node:
    return node if node.ctx == "store" else _filter(node, GUARD, [])


def _guard(node: nodes.Expr) -> nodes.Expr:
    free = isinstance(node, nodes.TemplateData | nodes.Const)
    paid = isinstance(node, nodes.Filter)
    return node if free or paid else _filter(node, GUARD, [])


def _filter(node: nodes.Node, name: str, args: list[nodes.Expr]) -> nodes.Filter:
    return nodes.Filter(node, name, args, [], None, None, lineno=node.lineno)

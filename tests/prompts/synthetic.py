"""Examples made for a template from nothing but the template: from how it uses each field.

A field that is iterated or indexed is a list, one whose parts are named a dictionary, one that is
counted with a number, anything else a text. What a field is compared with are its likely values.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import jinja2
import numpy as np
from jinja2 import nodes

from archobj_jax.prompts import Template
from archobj_jax.prompts.template import CHOICES

_NUMBER_FILTERS = {"int", "round", "abs", "float"}
_ITEM_FILTERS = {"first", "last", "choice", "random", "min", "max"}
_LIST_FILTERS = {"join", "map", "selectattr", "select", "reject", "unique", "most_frequent", "sort"}
_TEXT_METHODS = {"lower", "split", "replace", "strip", "startswith", "capitalize"}
_LIST_METHODS = {"append", "index", "pop"}


@dataclass
class Use:
    """How a template uses a value."""

    kind: str = ""  # "list", "number", "text", or not known
    length: int = 1  # a list's shortest
    parts: dict[str, "Use"] = field(default_factory=dict)
    values: list[object] = field(default_factory=list)
    _item: "Use | None" = None

    def item(self) -> "Use":
        self.kind = self.kind if self.kind == "text" else "list"
        self._item = self._item or Use()
        return self._item

    def part(self, name: str) -> "Use":
        return self.parts.setdefault(name, Use())


def examples(template: Template, count: int = 300) -> Iterator[dict[str, object]]:
    """Yields examples that the template may take, always the same ones."""
    root = Use()
    for source in (template.answer_choices, template.jinja):
        if source:
            _Reader(root).statements(jinja2.Environment().parse(source).body)
    fields = template.fields()
    shared = sorted({*_constants(template), *map(str, _values(root))})
    for index in range(count):
        maker = _Maker(np.random.default_rng(index), [*shared, "A word", "not <a word/> that", "B"])
        yield {name: maker.value(root.part(name), name) for name in sorted(fields)}


def _constants(template: Template) -> Iterator[str]:
    """Yields the texts that the template writes as constants, and its answer choices."""
    choices = template.answer_choices or ""
    yield from (choice.strip() for choice in choices.split("|||"))
    for node in jinja2.Environment().parse(choices + template.jinja).find_all(nodes.Const):
        if isinstance(node.value, str):
            yield node.value


def _values(use: Use) -> Iterator[object]:
    yield from use.values
    for part in use.parts.values():
        yield from _values(part)
    if use._item:
        yield from _values(use._item)


@dataclass
class _Maker:
    """Draws values; `shared` ones make fields equal, or one a part of another, now and then."""

    rng: np.random.Generator
    shared: list[str]

    def value(self, use: Use, name: str) -> object:
        if use.parts and all(part.isdigit() for part in use.parts):
            parts = range(1 + max(map(int, use.parts)))
            return [self.value(use.part(str(part)), name) for part in parts]
        if use.parts:
            length = max(use.length, int(self.rng.integers(1, 5)))
            for part in use.parts.values():  # lists side by side have one length
                part.length = max(part.length, length)
            return {part: self.value(use.parts[part], part) for part in use.parts}
        if use.kind == "list":
            counts = [value for value in use.values if type(value) is int and 0 < value < 50]
            counts += [use.length, use.length + int(self.rng.integers(5))]
            return [self.value(use.item(), name) for _ in range(self.choice(counts))]
        if use.values and self.rng.random() < 0.7:
            return self.choice(use.values)
        if use.kind == "number":
            return int(self.rng.integers(-1, 4))
        if self.rng.random() < 0.5:
            return self.choice(self.shared)
        return f"{name.title()} number {self.rng.integers(100)} <like this/> and long enough."

    def choice(self, values: list) -> object:
        return values[self.rng.integers(len(values))]


class _Reader:
    def __init__(self, root: Use):
        self.root = root
        self.names: dict[str, Use] = {CHOICES: Use(kind="list")}

    def statements(self, body: list[nodes.Node]) -> None:
        for node in body:
            self.statement(node)

    def statement(self, node: nodes.Node) -> None:
        if isinstance(node, nodes.Output):
            for child in node.nodes:
                self.use(child)
        elif isinstance(node, nodes.For):
            self.loop(node)
            self.statements([*node.body, *node.else_])
        elif isinstance(node, nodes.If):
            self.use(node.test)
            self.statements([*node.body, *node.elif_, *node.else_])
        elif isinstance(node, nodes.Assign):
            value = self.use(node.node)
            if isinstance(node.target, nodes.Name):
                self.names[node.target.name] = value

    def on_dict(self, node: nodes.Dict) -> Use:
        for pair in node.items:
            self.use(pair.value)
        keys = [pair.key.as_const() for pair in node.items if _is_constant(pair.key)]
        return Use(kind="mapping", values=keys)

    def loop(self, node: nodes.For) -> None:
        if isinstance(node.target, nodes.Tuple):
            sources = node.iter.args if isinstance(node.iter, nodes.Call) else []
            items = [self.use(source).item() for source in sources]
            for target, item in zip(node.target.items, items, strict=False):
                self.names[target.name] = item
            if not items:
                self.use(node.iter)
        else:
            self.names[node.target.name] = self.use(node.iter).item()
        self.use(node.test)

    def use(self, node: nodes.Node | None) -> Use:
        handler = getattr(self, f"on_{type(node).__name__.lower()}", None)
        if handler:
            return handler(node)
        for child in node.iter_child_nodes() if node else ():
            self.use(child)
        return Use()

    def on_name(self, node: nodes.Name) -> Use:
        return self.names[node.name] if node.name in self.names else self.root.part(node.name)

    def on_getattr(self, node: nodes.Getattr) -> Use:
        return self.use(node.node).part(node.attr)

    def on_getitem(self, node: nodes.Getitem) -> Use:
        owner = self.use(node.node)
        if isinstance(node.arg, nodes.Const):
            if isinstance(node.arg.value, str):
                return owner.part(node.arg.value)
            item = owner.item()
            owner.length = max(owner.length, node.arg.value + 1)
            return item
        if isinstance(node.arg, nodes.Slice):
            self.number(node.arg.start), self.number(node.arg.stop)
            return owner
        if owner.kind == "mapping":
            self.use(node.arg).values += owner.values
            return Use()
        self.number(node.arg)
        return owner.item()

    def on_call(self, node: nodes.Call) -> Use:
        for argument in node.args:
            self.use(argument)
        for keyword in node.kwargs:
            self.use(keyword.value)
        if not isinstance(node.node, nodes.Getattr):
            return Use()
        owner, method = self.use(node.node.node), node.node.attr
        if method in _TEXT_METHODS:
            owner.kind = "text"
        elif method in _LIST_METHODS:
            owner.item()
        return Use(kind="list") if method == "split" else Use(kind="text")

    def on_filter(self, node: nodes.Filter) -> Use:
        owner = self.use(node.node)
        for argument in node.args:
            self.use(argument)
        if node.name in _NUMBER_FILTERS:
            owner.kind = owner.kind or "number"
        elif node.name in _ITEM_FILTERS:
            return owner.item()
        elif node.name in _LIST_FILTERS:
            named = [a for a in node.args if isinstance(a, nodes.Const)]
            named += [k.value for k in node.kwargs if k.key == "attribute"]
            item = owner.item()
            if named and node.name in ("map", "selectattr"):
                part = item.part(named[0].value)
                part.values += [a.value for a in named[1:] if node.name == "selectattr"][1:]
        return owner if node.name in ("default", "list", "trim", "unique", "sort") else Use()

    def on_compare(self, node: nodes.Compare) -> Use:
        sides = [node.expr, *(operand.expr for operand in node.ops)]
        uses = [self.use(side) for side in sides]
        constants = [side.as_const() for side in sides if _is_constant(side)]
        length = next(
            (s for s in sides if isinstance(s, nodes.Filter) and s.name == "length"), None
        )
        if length is not None:
            uses.append(self.use(length.node))
        if not constants:
            constants = ["this one", "that one"]
        for use in uses:
            for value in constants:
                use.values += value if isinstance(value, list) else [value]
            if constants and all(type(value) in (int, float) for value in constants):
                use.kind = use.kind or ("number" if length is None else "")
        return Use()

    def on_add(self, node: nodes.Add) -> Use:
        if any(
            isinstance(side, nodes.Const) and type(side.value) is int
            for side in (node.left, node.right)
        ):
            self.number(node.left), self.number(node.right)
        else:
            self.use(node.left), self.use(node.right)
        return Use()

    def number(self, node: nodes.Node | None) -> Use:
        use = self.use(node)
        use.kind = use.kind or "number"
        return use

    def arithmetic(self, node: nodes.BinExpr) -> Use:
        left = self.number(node.left)
        self.number(node.right)
        if isinstance(node.right, nodes.Const):  # an index into choices, perhaps
            left.values += [node.right.value + offset for offset in range(4)]
        return Use(kind="number")

    on_sub = on_mul = on_div = on_mod = on_floordiv = arithmetic


def _is_constant(node: nodes.Node) -> bool:
    try:
        node.as_const()
    except nodes.Impossible:
        return False
    return True

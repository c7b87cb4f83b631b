"""Frozen dataclasses as JSON text, and back, by the annotations of their fields.

The text is for `jq` and for `diff`: keys are sorted, objects are spread over lines, and each
element of a list of objects stands on a line of its own.
"""

import dataclasses
import functools
import json
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from archobj_jax.errors import UserError, did_you_mean

T = TypeVar("T")
_Reader = Callable[[Any], Any]
_SCALARS: Mapping[Any, tuple[tuple[type, ...], str]] = {
    str: ((str,), "text"),
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    type(None): ((type(None),), "null"),
}


class MismatchError(Exception):
    """A value is not what its annotation says; `path` leads to it as in jq: `.tasks["x"].name`."""

    def __init__(self, message: str, path: str = ""):
        super().__init__(message)
        self.message, self.path = message, path

    def within(self, step: str) -> "MismatchError":
        """The same, seen from one level above."""
        return MismatchError(self.message, step + self.path)


def dumps(value: Any) -> str:
    """JSON text of a dataclass of dataclasses, mappings, sequences and scalars, in ASCII.

    Raises:
      UserError: a number is not finite; says which.
    """
    return _spread(value, indent="", path="") + "\n"


def _spread(value: Any, *, indent: str, path: str) -> str:
    fields = value
    if not isinstance(value, Mapping):
        fields = _fields(value) if dataclasses.is_dataclass(value) else {}
    if fields and not (dataclasses.is_dataclass(value) and all(map(_is_flat, fields.values()))):
        lines = [
            f"{indent} {json.dumps(name)}: "
            + _spread(fields[name], indent=indent + " ", path=f"{path}{_step(name)}")
            for name in sorted(fields)
        ]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, list | tuple) and not all(map(_is_flat, value)):
        lines = [
            f"{indent} {_on_a_line(item, f'{path}[{number}]')}" for number, item in enumerate(value)
        ]
        return "[\n" + ",\n".join(lines) + f"\n{indent}]"
    return _on_a_line(value, path)


def _on_a_line(value: Any, path: str) -> str:
    try:
        return _ENCODER.encode(value)
    except ValueError as error:
        raise UserError(f"{path} is or holds a number that is not finite: {value}.") from error


def _is_flat(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return not any(isinstance(item, list | tuple) or not _is_flat(item) for item in value)
    return not isinstance(value, Mapping) and not dataclasses.is_dataclass(value)


def _fields(value: Any) -> dict[str, Any]:
    """The fields of a dataclass, or the items of a mapping."""
    if isinstance(value, Mapping):
        return dict(value)
    kind: Any = type(value)
    return {name: getattr(value, name) for name in _names(kind)}


@functools.cache
def _names(kind: type) -> tuple[str, ...]:
    if not dataclasses.is_dataclass(kind):
        raise TypeError(f"a {kind.__name__} has no JSON")
    return tuple(field.name for field in dataclasses.fields(kind))


_ENCODER = json.JSONEncoder(default=_fields, sort_keys=True, allow_nan=False, separators=(",", ":"))


def loads(text: str) -> Any:
    """The content of JSON text.

    Raises:
      ValueError: it is not JSON, or holds a number that is not finite.
    """

    def refuse(constant: str) -> Any:
        raise ValueError(f"it holds {constant}")

    return json.loads(text, parse_constant=refuse)


def decode(kind: type[T], content: Any) -> T:
    """The dataclass `kind` that `content` is the JSON of.

    Raises:
      MismatchError: a field is missing, unknown or of another type, or the class refuses it.
    """
    reader: Callable[[Any], T] = _reader(kind)  # type: ignore[arg-type]  # classes are hashable
    return reader(content)


@functools.cache
def _reader(kind: Any) -> _Reader:
    """What makes a value of the annotation `kind` from JSON."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return lambda value: value
    if kind in _SCALARS:
        return _scalar_reader(*_SCALARS[kind])
    if dataclasses.is_dataclass(kind):
        return _object_reader(kind)
    if origin is tuple:
        return _tuple_reader(arguments)
    if origin is Literal:
        return functools.partial(_read_literal, arguments)
    if origin in (Union, types.UnionType):
        return _union_reader(arguments)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _mapping_reader(_reader(arguments[1]))
    raise TypeError(f"{kind} has no JSON")


def _scalar_reader(classes: tuple[type, ...], expected: str) -> _Reader:
    def read(value: Any) -> Any:
        if type(value) not in classes:  # not isinstance: True is no number
            raise MismatchError(f"expected {expected}, got {_shown(value)}")
        return value

    return read


def _read_literal(choices: Sequence[Any], value: Any) -> Any:
    if value not in choices:
        raise MismatchError(f"expected one of {', '.join(choices)}, got {_shown(value)}")
    return value


def _object_reader(kind: Any) -> _Reader:
    hints = get_type_hints(kind)
    fields = dataclasses.fields(kind)
    readers = {field.name: _reader(hints[field.name]) for field in fields}
    derived = [field.name for field in fields if not field.init]

    def read(value: Any) -> Any:
        if not isinstance(value, dict) or value.keys() != readers.keys():
            raise MismatchError(_wrong_names(value, readers))
        found = {}
        for name, reader in readers.items():
            try:
                found[name] = reader(value[name])
            except MismatchError as error:
                raise error.within(_step(name)) from error
        recorded = {name: found.pop(name) for name in derived}
        try:
            made = kind(**found)
        except (ValueError, UserError) as error:
            raise MismatchError(str(error)) from error
        for name, item in recorded.items():
            if getattr(made, name) != item:
                wanted = _shown(getattr(made, name))
                raise MismatchError(f"expected {wanted}, got {_shown(item)}", _step(name))
        return made

    return read


def _wrong_names(value: Any, names: Mapping[str, Any]) -> str:
    if not isinstance(value, dict):
        return f"expected an object, got {_shown(value)}"
    if missing := sorted(names.keys() - value.keys()):
        return f"lacks {', '.join(map(repr, missing))}"
    unknown = min(value.keys() - names.keys())
    return f"has the unknown field '{unknown}'.{did_you_mean(unknown, names)}"


def _tuple_reader(kinds: Sequence[Any]) -> _Reader:
    readers = [_reader(kind) for kind in kinds if kind is not Ellipsis]
    of_any_length = kinds[-1] is Ellipsis

    def read(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise MismatchError(f"expected a list, got {_shown(value)}")
        if not of_any_length and len(value) != len(readers):
            raise MismatchError(f"expected {len(readers)} elements, got {len(value)}")
        each = readers * len(value) if of_any_length else readers
        made = []
        for reader, item in zip(each, value, strict=True):
            try:
                made.append(reader(item))
            except MismatchError as error:
                raise error.within(f"[{len(made)}]") from error
        return tuple(made)

    return read


def _mapping_reader(reader: _Reader) -> _Reader:
    def read(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise MismatchError(f"expected an object, got {_shown(value)}")
        made = {}
        for name, item in value.items():
            try:
                made[name] = reader(item)
            except MismatchError as error:
                raise error.within(_step(name)) from error
        return made

    return read


def _union_reader(kinds: Sequence[Any]) -> _Reader:
    """Null or not; of several dataclasses, the one that has most of the object's fields."""
    readers = [_reader(kind) for kind in kinds if kind is not type(None)]
    classes: list[Any] = list(filter(dataclasses.is_dataclass, kinds))
    names = [_names(kind) for kind in classes]

    def read(value: Any) -> Any:
        if value is None and len(readers) < len(kinds):
            return None
        if len(readers) == 1 or not isinstance(value, dict):
            return readers[0](value)
        shared = [len(value.keys() & fields) for fields in names]
        return readers[shared.index(max(shared))](value)

    return read


def _step(name: str) -> str:
    return f".{name}" if name.isidentifier() else f"[{json.dumps(name)}]"


def _shown(value: Any) -> str:
    text = _ENCODER.encode(value)
    return text if len(text) <= 60 else text[:57] + "..."

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any, Literal

import pytest

from archobj_jax.errors import UserError
from archobj_jax.evaluation.json_records import MismatchError, decode, dumps, loads


@dataclasses.dataclass(frozen=True)
class Square:
    side: float
    area: float = dataclasses.field(init=False)

    def __post_init__(self):
        if self.side < 0:
            raise ValueError("a side is negative")
        object.__setattr__(self, "area", self.side**2)


@dataclasses.dataclass(frozen=True)
class Circle:
    radius: float


@dataclasses.dataclass(frozen=True)
class Drawing:
    title: str | None
    size: tuple[int, int]
    paper: Literal["white", "grey"]
    framed: bool
    shapes: tuple[Square | Circle, ...]
    by_name: Mapping[str, Circle]
    rest: Mapping[str, Any]


DRAWING = Drawing(
    title="é",
    size=(3, 4),
    paper="grey",
    framed=True,
    shapes=(Square(2.0), Circle(1.5)),
    by_name={"big one": Circle(9.0), "a": Circle(0.1)},
    rest={"z": [1, {"deep": None}], "a": {}},
)

TEXT = r"""{
 "by_name": {
  "a": {"radius":0.1},
  "big one": {"radius":9.0}
 },
 "framed": true,
 "paper": "grey",
 "rest": {
  "a": {},
  "z": [
   1,
   {"deep":null}
  ]
 },
 "shapes": [
  {"area":4.0,"side":2.0},
  {"radius":1.5}
 ],
 "size": [3,4],
 "title": "\u00e9"
}
"""


def changed(**fields):
    return decode(Drawing, json.loads(TEXT) | fields)


def test_the_text_is_for_people_too():
    assert dumps(DRAWING) == TEXT


def test_what_is_read_is_what_was_written():
    assert decode(Drawing, loads(TEXT)) == DRAWING
    assert changed(title=None).title is None


@pytest.mark.parametrize(
    ("fields", "path", "message"),
    [
        ({"title": 3}, ".title", "expected text, got 3"),
        ({"size": [1]}, ".size", "expected 2 elements, got 1"),
        ({"size": [1, 2.5]}, ".size[1]", "expected a whole number, got 2.5"),
        ({"size": [1, True]}, ".size[1]", "expected a whole number, got true"),
        ({"size": 3}, ".size", "expected a list, got 3"),
        ({"framed": 1}, ".framed", "expected true or false, got 1"),
        ({"paper": "red"}, ".paper", 'expected one of white, grey, got "red"'),
        ({"shapes": [{"radius": "x"}]}, ".shapes[0].radius", 'expected a number, got "x"'),
        ({"shapes": [{"radius": 1, "name": 2}]}, ".shapes[0]", "has the unknown field 'name'."),
        ({"shapes": [3]}, ".shapes[0]", "expected an object, got 3"),
        ({"shapes": [{"side": 2, "area": 5}]}, ".shapes[0].area", "expected 4, got 5"),
        ({"shapes": [{"side": -1, "area": 1}]}, ".shapes[0]", "a side is negative"),
        ({"shapes": [{"side": 1}]}, ".shapes[0]", "lacks 'area'"),
        ({"by_name": {"b c": {}}}, '.by_name["b c"]', "lacks 'radius'"),
        ({"by_name": []}, ".by_name", "expected an object, got []"),
        ({"frame": 1}, "", "has the unknown field 'frame'. Did you mean 'framed'?"),
    ],
)
def test_what_does_not_fit_is_told_with_its_place(fields, path, message):
    with pytest.raises(MismatchError) as caught:
        changed(**fields)
    assert (caught.value.path, caught.value.message) == (path, message)


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_numbers_are_finite(number):
    with pytest.raises(UserError, match=r"^\.shapes\[1\] is or holds a number that is not finite"):
        dumps(dataclasses.replace(DRAWING, shapes=(Circle(1.0), Circle(number))))
    with pytest.raises(ValueError, match="it holds"):
        loads(json.dumps([number]))


def test_what_has_no_json_is_a_defect():
    with pytest.raises(TypeError, match="a set has no JSON"):
        dumps(dataclasses.replace(DRAWING, rest={"a": {1}}))

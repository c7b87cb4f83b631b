"""Which values fit which annotations."""

import collections.abc
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import pytest

from archobj_jax.config.values import Reference, annotations, fits, shown
from tests.config import models


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (3, int),
        (3, float),
        (3, float | None),
        (None, typing.Optional[int]),  # noqa: UP045
        (True, bool),
        ("x", Any),
        ("x", object),
        ([1], Sequence[int]),
        ((1, 2), tuple[int, ...]),
        ((1, "a"), tuple[int, str]),
        ({"a": 1}, Mapping[str, int]),
        ("b", Literal["a", "b"]),
        ("x", typing.TypeVar("T")),
        ("x", models.Layer),
        (Reference(models.rectify, evaluated=False), Callable[[float], float]),
        (Reference(models.rectify, evaluated=False), collections.abc.Callable),
        (Reference(models.rectify, evaluated=True), int),
        (Reference(models.FullLm, evaluated=True), models.Objective | None),
        (Reference(models.FullLm, evaluated=False), type[models.Objective]),
    ],
)
def test_fits(value: object, hint: object):
    assert fits(value, hint)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("3", int),
        (3.0, int),
        (True, int),
        (True, float),
        (1, bool),
        (None, int),
        ("ab", Sequence[str]),
        ([1], tuple[int, ...]),
        ((1, 2, 3), tuple[int, int]),
        ({"a": "1"}, Mapping[str, int]),
        ({1: 1}, Mapping[str, int]),
        ("c", Literal["a", "b"]),
        (1, Literal[True]),
        (3, Callable[[float], float]),
        (Reference(models.FullLm, evaluated=False), models.Objective),
        (Reference(models.Optimizer, evaluated=True), models.Objective | None),
    ],
)
def test_does_not_fit(value: object, hint: object):
    assert not fits(value, hint)


def test_annotations_of_functions_and_classes():
    assert annotations(models.rectify)["floor"] is float
    assert annotations(models.Data)["batch_size"] is int


def test_shown_as_written():
    assert shown(int | None) == "int | None"
    assert shown(Mapping[str, int]) == "Mapping[str, int]"
    assert shown(models.Objective) == "Objective"

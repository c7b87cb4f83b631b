"""Checked array annotations, and the one glossary of dimensions.

B batch (rows) · L length · T target length · S source (key) length · D model (embed) · H heads ·
G key-value heads · K head dim · F feed-forward · V vocabulary · N layers · C answer choices.

`@checked` verifies the annotations of a function when it is called; for jitted code that is while
it is traced, so it costs nothing at run time.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from beartype import beartype
from jaxtyping import Array, Bool, Float, Int, Key, Num, jaxtyped

F = TypeVar("F", bound=Callable[..., Any])


def checked(function: F) -> F:
    """Checks array shapes, dtypes and plain types of `function` at each call (or trace)."""
    return jaxtyped(typechecker=beartype)(function)


PRNGKey = Key[Array, ""]

__all__ = ["Array", "Bool", "Float", "Int", "Key", "Num", "PRNGKey", "checked"]

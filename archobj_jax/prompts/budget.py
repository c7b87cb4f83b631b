"""What one rendering of a template may cost: work and size, counted, not timed.

Counting makes the bound the same on every machine and under every load: a template that fails here
fails everywhere. One unit is about a microsecond. Every operation that a template can reach costs
1 unit and 1 more for each 64 characters that it reads or makes, so a rendering ends after
`WORK_LIMIT` units, however its loops are nested; no value grows past `SIZE_LIMIT` characters, so
its memory is bounded too.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

WORK_LIMIT = 500_000
"""Units of work in one rendering: less than a second."""

SIZE_LIMIT = 1 << 20
"""Characters of one value, written out, and of what a template renders to."""

INTEGER_BITS = 64
"""Bits of a whole number that a template makes. Larger ones hash alike by design (modulo 2^61 - 1),
which would make dictionaries slow."""

_CHARACTERS_A_UNIT_SHIFT = 6


class RefusedError(Exception):
    """A template uses what prompts may not use, or would cost more than a rendering may."""


class Budget:
    """What is left of one rendering's work, and its source of randomness.

    Args:
      rng: for the filters `choice` and `random`.
    """

    __slots__ = ("_left", "rng")

    def __init__(self, rng: np.random.Generator):
        self._left = WORK_LIMIT
        self.rng = rng

    def spend(self, units: int) -> None:
        """Takes `units` from what is left.

        Raises:
          RefusedError: there are not as many.
        """
        self._left -= units
        if self._left < 0:
            raise RefusedError(f"takes more than {WORK_LIMIT:,} steps")

    def charge(self, value: Any) -> None:
        """Pays for one operation that reads all of `value`.

        Raises:
          RefusedError: the work is spent, or `value` is too large.
        """
        self.spend(1 + (size(value) >> _CHARACTERS_A_UNIT_SHIFT))

    def charge_length(self, value: Any) -> None:
        """Pays for one operation that moves the items of `value` without reading them."""
        self.spend(1 + (len(value) >> _CHARACTERS_A_UNIT_SHIFT))

    def made(self, value: Any) -> Any:
        """Returns `value`, new, after paying for it; an iterator pays for each item as it comes."""
        if isinstance(value, Iterator):
            return self.each(value)
        if type(value) is int:
            check_bits(value.bit_length())
        self.charge(value)
        return value

    def each(self, items: Any, units: int = 1) -> Iterator[Any]:
        """Yields `items`, paying `units` and its size for each."""
        for item in items:
            self.spend(units)
            self.charge(item)
            yield item


def size(value: Any) -> int:
    """Returns about how many characters `value` takes when written out.

    What stands in it twice counts twice, as it does when it is written, compared or hashed.

    Raises:
      RefusedError: more than `SIZE_LIMIT`, as when `value` holds itself.
    """
    if type(value) is str:
        total, pending = len(value), []
    else:
        total, pending = 0, [value]
    while pending:
        item = pending.pop()
        kind = type(item)
        if kind is str:
            total += len(item) + 4
        elif kind is int:
            total += 8 + item.bit_length() // 3
        elif kind is dict:
            total += 8
            pending.extend(item)
            pending.extend(item.values())
        elif kind is range:
            total += 8 + 8 * len(item)
        elif kind in _CONTAINERS:
            total += 8
            pending.extend(item)
        else:
            total += 8 if kind in _SCALARS else 64
        if total + len(pending) > SIZE_LIMIT:
            break
    if total > SIZE_LIMIT or pending:
        raise RefusedError(f"makes a value of more than {SIZE_LIMIT:,} characters")
    return total


def check_size(characters: int) -> None:
    """Raises RefusedError if a value of so many characters, about to be made, is too large."""
    if characters > SIZE_LIMIT:
        raise RefusedError(f"would make a value of {characters:,} characters (> {SIZE_LIMIT:,})")


def check_bits(bits: int) -> None:
    """Raises RefusedError if a whole number of so many bits is too large."""
    if bits > INTEGER_BITS:
        raise RefusedError(f"makes a number of more than {INTEGER_BITS} bits")


_SCALARS = frozenset({bool, float, type(None)})
_CONTAINERS = frozenset(
    {list, tuple, set, frozenset, type({}.keys()), type({}.values()), type({}.items())}
)

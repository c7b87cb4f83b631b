"""Work of many sizes in few shapes: sizes are rounded up to buckets, and batches hold one shape."""

import dataclasses
from collections.abc import Callable, Sequence

Shape = tuple[int, ...]

_SMALLEST = 8
_LITTLE = 4
"""A rest of less than this part of a batch is little."""


def bucket(size: int) -> int:
    """The smallest of 0, 8, 12, 16, 24, 32, 48, … that is not below `size`.

    Two sizes an octave: a third of a shape is padding at most, and the lengths from 8 to 2,048
    make 17 shapes to compile.
    """
    if size <= 0:
        return 0
    power = _SMALLEST
    while power < size:
        if 3 * power // 2 >= size:
            return 3 * power // 2
        power *= 2
    return power


@dataclasses.dataclass(frozen=True)
class Batch:
    """Work of one shape, done together.

    Attributes:
      items: which, as indices into the list of all.
      shape: what each of them is padded to.
      rows: rows of the batch, at least as many as items.
    """

    items: tuple[int, ...]
    shape: Shape
    rows: int


def batches(
    shapes: Sequence[Shape], *, tokens: Callable[[Shape], int], budget: int, multiple: int = 1
) -> list[Batch]:
    """Sorts work into batches. The same work makes the same batches, wherever it runs.

    A batch takes work of about its own size, the largest first; a rest that is little altogether
    goes with what is larger, since another shape to compile would cost more than its padding.

    Args:
      shapes: of each piece of work, in buckets.
      tokens: that a row of a shape holds, padding included; grows with each dimension.
      budget: tokens of a batch at most, unless a single row (or `multiple` of them) has more.
      multiple: what the number of rows is a multiple of: the shards that rows lie on.

    Returns:
      Batches, the largest shapes first, so that what does not fit into memory fails at once.
    """
    sizes = [tokens(shape) for shape in shapes]
    order = sorted(range(len(shapes)), key=lambda i: (-sizes[i], shapes[i], i))
    rest = sum(sizes)
    made: list[Batch] = []
    items: list[int] = []
    shape: Shape = ()

    def most(shape: Shape) -> int:
        return max(budget // tokens(shape) // multiple, 1) * multiple

    def finish() -> None:
        if items:
            rows = min(_rows(len(items), multiple), most(shape))
            made.append(Batch(tuple(items), shape, rows))

    for item in order:
        wider = tuple(map(max, shape or shapes[item], shapes[item]))
        alike = 2 * sizes[item] >= tokens(wider) or rest <= budget / _LITTLE
        if not alike or len(items) + 1 > most(wider):
            finish()
            items, wider = [], shapes[item]
        items.append(item)
        shape = wider
        rest -= sizes[item]
    finish()
    return made


def _rows(count: int, multiple: int) -> int:
    """A power of two times `multiple`, so that the last batches of tasks share their shapes."""
    rows = multiple
    while rows < count:
        rows *= 2
    return rows

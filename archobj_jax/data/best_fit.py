"""Best fit: which row each of many examples goes into, a microsecond or two an example.

A row has one side or two, and so much room on each. Of the open rows with enough room on every side
an example goes into the one with the least room left on the side that fills first; if there is none
it opens a new row. Rows are found by bit masks: bit i of one Python int says that some open row has
i tokens free, so that shifting and taking the lowest bit finds the tightest.
"""

from collections.abc import Sequence

import numpy as np


class BestFit:
    """Open and closed rows, filled by `place`.

    Args:
      room: tokens that a row has room for, on one side or two; the first should fill first.
      smallest: the least that any example takes of each; a row with less free is closed.
    """

    def __init__(self, room: Sequence[int], smallest: Sequence[int]):
        self._room, self._smallest = _two(room), _two(smallest)
        self._first = 0
        """Bit i: some open row has i free on the first side."""
        self._second = [0] * (self._room[0] + 1)
        """Bit j of item i: some open row has i free on the first side and j on the second."""
        self._open: dict[int, list[int]] = {}
        """The open rows by what is free, `first * (room of the second + 1) + second`."""
        self.rows = 0
        """How many rows there are."""

    def place(self, sizes: np.ndarray) -> np.ndarray:
        """Places examples, in the order given.

        Args:
          sizes: integer [examples, sides], at most the room.

        Returns:
          int64 [examples]: the row of each.
        """
        if sizes.shape[1] == 1:
            sizes = np.column_stack([sizes, np.zeros_like(sizes)])
        # One loop over local names: calls and attributes would take longer than the search.
        levels_of, opened, levels_now, rows = self._second, self._open, self._first, self.rows
        (room, room_left), (least, least_left) = self._room, self._smallest
        width = room_left + 1
        placed = []
        for first, second in sizes.tolist():
            levels, free = levels_now >> first, first
            while levels:
                step = (levels & -levels).bit_length()
                free += step
                fitting = levels_of[free - 1] >> second
                if fitting:
                    free -= 1
                    left = second + (fitting & -fitting).bit_length() - 1
                    here = opened[free * width + left]
                    row = here.pop()
                    if not here:
                        levels_of[free] ^= 1 << left
                        if not levels_of[free]:
                            levels_now ^= 1 << free
                    break
                levels >>= step
            else:
                row, free, left = rows, room, room_left
                rows += 1
            placed.append(row)
            free -= first
            left -= second
            if free >= least and left >= least_left:
                here = opened.setdefault(free * width + left, [])
                if not here:
                    levels_of[free] |= 1 << left
                    levels_now |= 1 << free
                here.append(row)
        self._first, self.rows = levels_now, rows
        return np.array(placed, np.int64)


def _two(sides: Sequence[int]) -> tuple[int, int]:
    """Returns one side or two as two, the second of no size where there is one."""
    first, second = (*sides, 0)[:2]
    return int(first), int(second)

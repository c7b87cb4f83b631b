"""A table of the report: cells as text, with links; the same as CSV, HTML and Markdown."""

import csv
import dataclasses
import io
from collections.abc import Sequence

from archobj_jax.training.lineage import counted


@dataclasses.dataclass(frozen=True)
class Link:
    """A cell that leads somewhere on the page.

    Attributes:
      text: what stands in the cell.
      anchor: of an element of the page.
    """

    text: str
    anchor: str

    def __str__(self) -> str:
        return self.text


@dataclasses.dataclass(frozen=True)
class Tokens:
    """A cell with a number of tokens, which is shown rounded (`168B`) and sorted as it is."""

    number: float

    def __str__(self) -> str:
        return counted(self.number)


Cell = str | Link | Tokens


@dataclasses.dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
      name: of its CSV file.
      title: half a sentence.
      header: names of the columns.
      rows: their cells; anchors are links to rows of this table.
      note: what one must know to read it.
      anchors: of the rows, for links to them; empty for none.
    """

    name: str
    title: str
    header: tuple[str, ...]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    anchors: Sequence[str] = ()

    def csv(self) -> str:
        """The table as CSV, links as their text and tokens to the last one."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.header)
        writer.writerows(
            [f"{cell.number:.0f}" if isinstance(cell, Tokens) else str(cell) for cell in row]
            for row in self.rows
        )
        return text.getvalue()

    def markdown(self) -> str:
        """The table as Markdown."""
        lines = [self.header, ["---"] * len(self.header), *self.rows]
        return "\n".join(
            "| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |"
            for line in lines
        )


def figure(value: float | None, digits: int = 1) -> str:
    """A number as the tables have it; empty if there is none."""
    return "" if value is None else f"{value:.{digits}f}"


def bounds(interval: tuple[float, float] | None, digits: int = 1) -> tuple[str, str]:
    """Low and high of an interval."""
    low, high = interval or (None, None)
    return figure(low, digits), figure(high, digits)

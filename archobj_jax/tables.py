"""Tables as text."""

from collections.abc import Sequence


def table(rows: Sequence[Sequence[str]], *, numbers_from: int | None = None) -> str:
    """Rows of cells as lines, columns aligned; the first row is usually the header.

    Args:
      rows: the cells.
      numbers_from: the first of the columns that are aligned to the right; None for none.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    left = len(widths) if numbers_from is None else numbers_from
    return "\n".join(
        "  ".join(
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def readable_bytes(size: float) -> str:
    """So many bytes in the largest unit of which there is one: `1.5 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"

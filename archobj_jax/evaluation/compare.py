"""`archobj evaluate --compare`."""

from collections.abc import Sequence

from archobj_jax.evaluation import comparison, results
from archobj_jax.evaluation.tables import comparison_table


def compare_files(*, compare: Sequence[str]) -> None:
    """Prints what the second of two results files has better or worse than the first.

    Raises:
      UserError: one is no results file, or they are not of the same data.
    """
    first, second = compare
    found = comparison.compare(results.read(first), results.read(second), names=(first, second))
    print(comparison_table(found))

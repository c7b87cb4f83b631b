"""Two results files compared, example by example."""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from archobj_jax.errors import UserError
from archobj_jax.evaluation import json_records
from archobj_jax.evaluation.pairing import Level, TaskPair, UnitPair, pair_task, pair_units
from archobj_jax.evaluation.results import EvaluationResults
from archobj_jax.evaluation.statistics import Bootstrap, interval

FEWEST_EXAMPLES = 6
"""With fewer, no two-sided sign test of paired examples reaches 5%: five give 2 / 2^5."""

_FEW_LINES = 8

Verdict = Literal["A better", "B better", "within noise", "too few examples", "no interval"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
    """One metric of a task without a data set, of a data set ("group") or of the suite.

    Attributes:
      level, name, metric: what is compared.
      a, b: the metric in each, on the examples that both have.
      difference: b - a.
      interval: of the difference, 95%, by paired bootstrap: for both the same examples and prompts
        are drawn. None with fewer than two examples, or if the metric is no mean over examples.
      examples: how many were paired.
      verdict: "within noise" if the interval contains 0; "no interval" claims nothing.
    """

    level: Level
    name: str
    metric: str
    a: float
    b: float
    difference: float
    interval: tuple[float, float] | None
    examples: int
    verdict: Verdict


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """B against A.

    Attributes:
      a, b: what they are called.
      differences: of tasks and data sets by name, then of the suite.
      matched: how many pairs of task and example both have.
      unmatched: how many more "a" and "b" have, in the tasks that both have.
      only: tasks that only "a" and only "b" has.
      notes: what else one should know before believing the differences.
    """

    a: str
    b: str
    differences: tuple[Difference, ...]
    matched: int
    unmatched: Mapping[str, int]
    only: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]

    def json(self) -> str:
        """The same as JSON text."""
        return json_records.dumps(self)


def compare(
    a: EvaluationResults,
    b: EvaluationResults,
    *,
    names: tuple[str, str] = ("A", "B"),
    bootstrap: Bootstrap | None = None,
) -> Comparison:
    """Compares what both have: tasks by name, examples by their ids.

    Data sets and suites are put together anew from the prompts and examples in both, so their
    figures may differ from those in the files.

    Args:
      a, b: content of the files.
      names: of the files, for messages.
      bootstrap: for the intervals; by default with seed and resamples of `a`.

    Raises:
      UserError: they have no task in common, or a task or an example is not the same in both.
    """
    shared = sorted(a.tasks.keys() & b.tasks.keys())
    if not shared:
        raise UserError(
            f"{names[0]} and {names[1]} have no task in common; the one has {_listed(a.tasks)}, "
            f"the other {_listed(b.tasks)}."
        )
    bootstrap = bootstrap or Bootstrap(a.seed, a.resamples)
    tasks = {name: pair_task(a.tasks[name], b.tasks[name], names) for name in shared}
    units = pair_units(a, b, tasks, names=names, bootstrap=bootstrap)
    matched = sum(len(task.a) for task in tasks.values())
    sides = {"a": a, "b": b}
    return Comparison(
        a=names[0],
        b=names[1],
        differences=tuple(found for unit in units for found in _differences(unit)),
        matched=matched,
        unmatched={
            side: sum(len(of_side.tasks[name].examples) for name in shared) - matched
            for side, of_side in sides.items()
        },
        only={
            side: tuple(sorted(of_side.tasks.keys() - tasks.keys()))
            for side, of_side in sides.items()
        },
        notes=tuple(_notes(a, b, tasks, units)),
    )


def _differences(unit: UnitPair) -> Iterator[Difference]:
    for metric, (a, b) in unit.figures.items():
        bounds = interval(unit.draws[metric]) if metric in unit.draws else None
        yield Difference(
            level=unit.level,
            name=unit.name,
            metric=metric,
            a=a,
            b=b,
            difference=b - a,
            interval=bounds,
            examples=unit.examples,
            verdict=_verdict(bounds, unit.examples, unit.higher_is_better[metric]),
        )


def _verdict(bounds: tuple[float, float] | None, examples: int, higher_is_better: bool) -> Verdict:
    if examples < FEWEST_EXAMPLES:
        return "too few examples"
    if bounds is None:
        return "no interval"
    low, high = bounds
    if low <= 0 <= high:
        return "within noise"
    return "B better" if (low > 0) == higher_is_better else "A better"


def _notes(
    a: EvaluationResults,
    b: EvaluationResults,
    tasks: Mapping[str, TaskPair],
    units: Sequence[UnitPair],
) -> Iterator[str]:
    for what in ("settings", "versions"):
        one, other = getattr(a, what), getattr(b, what)
        for name in sorted(one.keys() | other.keys()):
            yield from _changes(f"{what}: {name}", one.get(name), other.get(name))
    for name, task in tasks.items():
        if not task.a:
            yield f"{name}: no example is in both"
        for metric, why in task.incomparable.items():
            yield f"{name}: {metric} is left out; {why}"
    if (a.suite or b.suite) and not any(unit.level == "suite" for unit in units):
        yield "no mean over data sets, since A and B have no suite in common"
    for side, results in (("A", a), ("B", b)):
        if results.suite is not None and results.suite.missing:
            yield f"{results.suite.name}: {side} lacks {', '.join(results.suite.missing)}"
        for group in results.groups.values():
            if group.missing:
                yield f"{group.name}: {side} lacks {', '.join(group.missing)}"


def _changes(name: str, a: Any, b: Any) -> Iterator[str]:
    """How a setting differs; of a text of several lines, those that only one has."""
    if a == b:
        return
    if not (isinstance(a, str) and isinstance(b, str) and "\n" in a + b):
        in_a, in_b = (json.dumps(value, sort_keys=True) for value in (a, b))
        yield f"{name} is {in_a} in A, {in_b} in B"
        return
    lines = {"A": a.splitlines(), "B": b.splitlines()}
    for side, other in (("A", "B"), ("B", "A")):
        only = [line for line in lines[side] if line not in lines[other]]
        for line in only[:_FEW_LINES]:
            yield f"{name}: only in {side}: {line}"
        if more := only[_FEW_LINES:]:
            yield f"{name}: only in {side}: {len(more)} lines more"


def _listed(tasks: Mapping[str, Any]) -> str:
    names = sorted(tasks)
    more = f" and {len(names) - 3} more" if names[3:] else ""
    return ", ".join(names[:3]) + more if names else "none"

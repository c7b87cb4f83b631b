"""Examples that two results have in common, and how the figures of them differ."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np

from archobj_jax.errors import UserError
from archobj_jax.evaluation.examples import Document, Example, stacked
from archobj_jax.evaluation.results import EvaluationResults, TaskResult
from archobj_jax.evaluation.statistics import Bootstrap, OverPrompts, estimate

Level = Literal["task", "group", "suite"]
"""A task without a data set, a data set, or the mean over data sets."""


@dataclasses.dataclass(frozen=True)
class TaskPair:
    """The examples of one task that are in both results, in the order of the first.

    Attributes:
      group: the task's data set.
      a, b: the examples.
      higher_is_better: by metric.
      whole: metrics that are no means over examples, in both; if all examples are in both.
      incomparable: metrics that are left out, and why.
    """

    group: str | None
    a: Sequence[Example]
    b: Sequence[Example]
    higher_is_better: Mapping[str, bool]
    whole: Mapping[str, tuple[float, float]]
    incomparable: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class UnitPair:
    """What is compared as one.

    Attributes:
      level, name: a task, a data set, or the suite.
      examples: how many are in both.
      figures: by metric, in both results.
      draws: by metric, the second - the first in each bootstrap resample: float64 [resamples].
        Nothing with fewer than two examples, and for metrics that are no means over examples.
      higher_is_better: by metric.
    """

    level: Level
    name: str
    examples: int
    figures: Mapping[str, tuple[float, float]]
    draws: Mapping[str, np.ndarray]
    higher_is_better: Mapping[str, bool]


def pair_task(a: TaskResult, b: TaskResult, names: tuple[str, str]) -> TaskPair:
    """Pairs a task's examples by their ids; `names` are those of the results, for messages.

    Raises:
      UserError: the task, or an example's gold, references or length, is not the same in both.
    """
    for what in ("kind", "group", "split"):
        if getattr(a, what) != getattr(b, what):
            raise UserError(
                f"the task {a.name} has the {what} {getattr(a, what)} in {names[0]}, "
                f"{getattr(b, what)} in {names[1]}; the two do not compare."
            )
    by_id = {example.id: example for example in b.examples}
    of_a = [example for example in a.examples if example.id in by_id]
    of_b = [by_id[example.id] for example in of_a]
    for one, other in zip(of_a, of_b, strict=True):
        there = other.data()
        for what, value in one.data().items():
            if value != there[what]:
                raise UserError(
                    f"the task {a.name}, example {one.id}: {what} {value} in {names[0]}, "
                    f"{there[what]} in {names[1]}. The data differ; evaluate both on the same."
                )
    shares = {metric for example in a.examples[:1] for metric in example.terms()}
    whole = sorted((a.metrics.keys() & b.metrics.keys()) - shares)
    incomparable = {}
    if _tokens(of_a) != _tokens(of_b):
        incomparable["loss"] = "A and B count tokens differently"
    if not len(of_a) == len(a.examples) == len(b.examples):
        why = "it cannot be computed from the examples that are in both"
        incomparable |= dict.fromkeys(whole, why)
    return TaskPair(
        group=a.group,
        a=of_a,
        b=of_b,
        higher_is_better={name: metric.higher_is_better for name, metric in a.metrics.items()},
        whole={
            name: (a.metrics[name].value, b.metrics[name].value)
            for name in whole
            if name not in incomparable
        },
        incomparable=incomparable,
    )


def _tokens(examples: Sequence[Example]) -> list[int]:
    """Lengths in tokens, which are the unit of a loss."""
    return [example.tokens for example in examples if isinstance(example, Document)]


def pair_units(
    a: EvaluationResults,
    b: EvaluationResults,
    tasks: Mapping[str, TaskPair],
    *,
    names: tuple[str, str],
    bootstrap: Bootstrap,
) -> list[UnitPair]:
    """Tasks without a data set and data sets, of the examples in both; then the suite.

    Raises:
      UserError: prompts become a data set's figure in another way in each.
    """
    units: dict[tuple[Level, str], list[TaskPair]] = {}
    for name, task in tasks.items():
        unit: tuple[Level, str] = ("task", name) if task.group is None else ("group", task.group)
        if task.a:
            units.setdefault(unit, []).append(task)
    paired = []
    for (level, name), prompts in units.items():
        over_prompts: OverPrompts = "mean"  # of one
        if level == "group":
            over_prompts = a.groups[name].over_prompts
            if b.groups[name].over_prompts != over_prompts:
                raise UserError(
                    f"the data set {name} is the {over_prompts} over prompts in {names[0]}, the "
                    f"{b.groups[name].over_prompts} in {names[1]}; the two do not compare."
                )
        paired.append(_unit(level, name, prompts, over_prompts, bootstrap))
    return [*paired, *_suite(a, b, paired)]


def _unit(
    level: Level,
    name: str,
    prompts: Sequence[TaskPair],
    over_prompts: OverPrompts,
    bootstrap: Bootstrap,
) -> UnitPair:
    of_a, of_b = stacked([task.a for task in prompts]), stacked([task.b for task in prompts])
    left_out = {metric for task in prompts for metric in task.incomparable}
    metrics = [metric for metric in of_a if metric in of_b and metric not in left_out]
    terms = {("a", metric): of_a[metric] for metric in metrics}
    terms |= {("b", metric): of_b[metric] for metric in metrics}
    figures = {key: estimate(pair, over_prompts) for key, pair in terms.items()}
    examples = len({example.id for task in prompts for example in task.a})
    draws = {}
    if metrics and examples > 1:
        # In one call, so that for both results the same examples and prompts are drawn.
        drawn = bootstrap.draws(terms, name=f"{level} {name}", over_prompts=over_prompts)
        draws = {metric: drawn["b", metric] - drawn["a", metric] for metric in metrics}
    of_both = {metric: (figures["a", metric], figures["b", metric]) for metric in metrics}
    return UnitPair(
        level=level,
        name=name,
        examples=examples,
        figures=of_both | (dict(prompts[0].whole) if len(prompts) == 1 else {}),
        draws=draws,
        higher_is_better=prompts[0].higher_is_better,
    )


def _suite(
    a: EvaluationResults, b: EvaluationResults, paired: Sequence[UnitPair]
) -> Iterator[UnitPair]:
    """The mean over the data sets of the suite that are in both, if it is the same suite."""
    if a.suite is None or b.suite is None or a.suite.name != b.suite.name:
        return
    names = set(a.suite.groups) & set(b.suite.groups)
    groups = [each for each in paired if each.level == "group" and each.name in names]
    if not groups:
        return
    metrics = [m for m in groups[0].figures if all(m in group.figures for group in groups)]
    means = {m: np.mean([group.figures[m] for group in groups], axis=0) for m in metrics}
    yield UnitPair(
        level="suite",
        name=a.suite.name,
        examples=sum(group.examples for group in groups),
        figures={metric: (float(both[0]), float(both[1])) for metric, both in means.items()},
        draws={
            metric: np.mean([group.draws[metric] for group in groups], axis=0)
            for metric in metrics
            if all(metric in group.draws for group in groups)
        },
        higher_is_better=groups[0].higher_is_better,
    )

"""From examples to a task's result, from prompts to a data set's, from data sets to a suite's."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from archobj_jax.errors import UserError
from archobj_jax.evaluation.examples import Document, RankedExample, ScoredExample, stacked
from archobj_jax.evaluation.results import (
    Checkpoint,
    EvaluationResults,
    GroupResult,
    Metric,
    SuiteResult,
    TaskResult,
)
from archobj_jax.evaluation.statistics import (
    Bootstrap,
    OverPrompts,
    Terms,
    estimate,
    interval,
    one_figure,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class About:
    """What a task's result says beside its figures; see `TaskResult`."""

    name: str
    split: str
    group: str | None = None
    prompt: str | None = None
    dropped: int = 0


@dataclasses.dataclass(frozen=True)
class Aggregation:
    """How figures are put together.

    Attributes:
      over_prompts: how the figures of a data set's prompts become one.
      suite: name of the mean over data sets; None for no mean.
      groups: the tasks that each data set of the suite is to have.
    """

    over_prompts: OverPrompts = "median"
    suite: str | None = None
    groups: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)


def ranked_task(
    about: About, examples: Sequence[RankedExample], *, bootstrap: Bootstrap
) -> TaskResult:
    """A task of answer choices, with `ACCURACIES` and the chance of any choice being right.

    Raises:
      UserError: no examples are left, or all have weight 0.
      ValueError: two have the same id, or only some have unconditional log likelihoods.
    """
    found = _task(about, examples, bootstrap=bootstrap)
    weights = [example.weight for example in examples]
    right = [len(set(example.gold)) / len(example.choices) for example in examples]
    return dataclasses.replace(found, chance=100 * float(np.average(right, weights=weights)))


def scored_task(
    about: About,
    examples: Sequence[ScoredExample],
    *,
    bootstrap: Bootstrap,
    higher_is_better: Mapping[str, bool],
    whole: Mapping[str, Metric] | None = None,
    chance: float | None = None,
) -> TaskResult:
    """A task with metrics of its own.

    Args:
      about: the task.
      examples: with values of those metrics that are means over examples.
      bootstrap: for their intervals.
      higher_is_better: how to compare each of them.
      whole: metrics of all examples together, e.g. F1.
      chance: in percent, if known.

    Raises:
      UserError: no examples are left.
      ValueError: two have the same id, or different metrics.
    """
    found = _task(about, examples, bootstrap=bootstrap, higher_is_better=higher_is_better)
    return dataclasses.replace(found, chance=chance, metrics={**found.metrics, **(whole or {})})


def loss_task(about: About, documents: Sequence[Document], *, bootstrap: Bootstrap) -> TaskResult:
    """A corpus, with `loss` (nats a token) and `bits_per_byte`; intervals are over documents.

    Raises:
      UserError: no documents are left.
      ValueError: two have the same id.
    """
    found = _task(about, documents, bootstrap=bootstrap)
    lengths = {
        "tokens": sum(document.tokens for document in documents),
        "bytes": sum(document.bytes for document in documents),
    }
    return dataclasses.replace(found, counts={**found.counts, **lengths})


def evaluation_results(
    tasks: Iterable[TaskResult],
    *,
    aggregation: Aggregation,
    bootstrap: Bootstrap,
    checkpoint: Checkpoint,
    versions: Mapping[str, str],
    settings: Mapping[str, Any],
    failed: Mapping[str, str],
) -> EvaluationResults:
    """The content of a results file, data sets and suite included; see its attributes."""
    by_name = {task.name: task for task in tasks}
    groups, suite = aggregate(by_name, aggregation, bootstrap=bootstrap)
    return EvaluationResults(
        checkpoint=checkpoint,
        versions=versions,
        settings=settings,
        seed=bootstrap.seed,
        resamples=bootstrap.resamples,
        tasks=by_name,
        groups=groups,
        suite=suite,
        failed=failed,
    )


def aggregate(
    tasks: Mapping[str, TaskResult], aggregation: Aggregation, *, bootstrap: Bootstrap
) -> tuple[dict[str, GroupResult], SuiteResult | None]:
    """Data sets by name, of the tasks that have a group, and the suite.

    The order of the tasks does not matter.
    """
    members: dict[str, list[TaskResult]] = {}
    for name in sorted(tasks):
        if (group := tasks[name].group) is not None:
            members.setdefault(group, []).append(tasks[name])
    groups: dict[str, GroupResult] = {}
    draws: dict[str, Draws] = {}
    for name, of_group in members.items():
        groups[name], draws[name] = _group(name, of_group, aggregation, bootstrap)
    return groups, _suite(groups, draws, aggregation)


Draws = Mapping[str, np.ndarray]
"""By metric, its value in each bootstrap resample: float64 [resamples]; empty without interval."""


def _group(
    name: str, tasks: Sequence[TaskResult], aggregation: Aggregation, bootstrap: Bootstrap
) -> tuple[GroupResult, Draws]:
    over_prompts = aggregation.over_prompts
    terms = stacked([task.examples for task in tasks])
    values = {metric: estimate(pair, over_prompts) for metric, pair in terms.items()}
    draws = _draws(terms, f"group {name}", over_prompts, bootstrap)
    better = {metric: tasks[0].metrics[metric].higher_is_better for metric in values}
    names = tuple(task.name for task in tasks)
    chances = [task.chance for task in tasks if task.chance is not None]
    counts = {"examples": len({example.id for task in tasks for example in task.examples})}
    for count in ("truncated", "dropped"):
        counts[count] = sum(task.counts[count] for task in tasks)
    result = GroupResult(
        name=name,
        tasks=names,
        missing=tuple(sorted(set(aggregation.groups.get(name, ())) - set(names))),
        over_prompts=over_prompts,
        chance=float(one_figure(np.array(chances), over_prompts))
        if len(chances) == len(tasks)
        else None,
        counts=counts,
        metrics=_metrics(values, draws, better),
    )
    return result, draws


def _suite(
    groups: Mapping[str, GroupResult], draws: Mapping[str, Draws], aggregation: Aggregation
) -> SuiteResult | None:
    if aggregation.suite is None:
        return None
    names = [name for name in sorted(aggregation.groups) if name in groups]
    of_suite = [groups[name] for name in names]
    shared = [
        metric
        for metric in (of_suite[0].metrics if of_suite else ())
        if all(metric in group.metrics for group in of_suite)
    ]
    chances = [group.chance for group in of_suite if group.chance is not None]
    means = {m: float(np.mean([group.metrics[m].value for group in of_suite])) for m in shared}
    drawn = {
        metric: np.mean([draws[name][metric] for name in names], axis=0)
        for metric in shared
        if all(metric in draws[name] for name in names)
    }
    better = {metric: of_suite[0].metrics[metric].higher_is_better for metric in shared}
    return SuiteResult(
        name=aggregation.suite,
        groups=tuple(names),
        missing=tuple(sorted(aggregation.groups.keys() - groups.keys())),
        chance=float(np.mean(chances)) if chances and len(chances) == len(names) else None,
        metrics=_metrics(means, drawn, better),
    )


def _task(
    about: About,
    examples: Sequence[RankedExample] | Sequence[ScoredExample] | Sequence[Document],
    *,
    bootstrap: Bootstrap,
    higher_is_better: Mapping[str, bool] | None = None,
) -> TaskResult:
    if not examples:
        raise UserError(
            f"the task {about.name} has no examples in its split '{about.split}' "
            f"({about.dropped} were dropped)."
        )
    terms = stacked([examples])
    values = {metric: estimate(pair) for metric, pair in terms.items()}
    if unweighted := [metric for metric, value in values.items() if math.isnan(value)]:
        raise UserError(
            f"the task {about.name} has no {unweighted[0]}: all of its examples have weight 0."
        )
    kind = examples[0].kind
    return TaskResult(
        name=about.name,
        kind=kind,
        group=about.group,
        prompt=about.prompt,
        split=about.split,
        chance=None,
        counts={
            "examples": len(examples),
            "truncated": sum(example.truncated for example in examples),
            "dropped": about.dropped,
        },
        metrics=_metrics(
            values,
            _draws(terms, f"task {about.name}", "mean", bootstrap),
            higher_is_better or dict.fromkeys(values, kind == "rank"),
        ),
        examples=tuple(examples),
    )


def _draws(
    terms: Mapping[str, Terms], name: str, over_prompts: OverPrompts, bootstrap: Bootstrap
) -> Draws:
    """Nothing with fewer than two examples: their interval would be a point."""
    if not terms or next(iter(terms.values())).numerators.shape[1] < 2:
        return {}
    return bootstrap.draws(terms, name=name, over_prompts=over_prompts)


def _metrics(
    values: Mapping[str, float], draws: Draws, better: Mapping[str, bool]
) -> dict[str, Metric]:
    return {
        metric: Metric(
            value=value,
            interval=interval(draws[metric]) if metric in draws else None,
            higher_is_better=better[metric],
        )
        for metric, value in values.items()
    }

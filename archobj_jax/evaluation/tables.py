"""Results and comparisons as text for a terminal, at most `WIDTH` columns wide."""

import textwrap
from collections.abc import Iterator, Sequence

from archobj_jax.evaluation.comparison import Comparison, Difference
from archobj_jax.evaluation.examples import ACCURACIES
from archobj_jax.evaluation.results import EvaluationResults, GroupResult, Metric, TaskResult
from archobj_jax.tables import table

WIDTH = 100


def results_table(results: EvaluationResults) -> str:
    """Accuracies by data set and their mean, other metrics by task, then what failed."""
    checkpoint = results.checkpoint
    parts = [
        _wrapped([f"{checkpoint.path}, step {checkpoint.step:,}", checkpoint.lineage.notation]),
        _accuracies(results),
        _other_metrics(results),
        _wrapped(_notes(results)) if results.tasks else "",
        _wrapped(f"failed: {name}: {why}" for name, why in sorted(results.failed.items())),
    ]
    return "\n\n".join(part for part in parts if part)


def comparison_table(comparison: Comparison) -> str:
    """A block of lines for each metric, then what was not compared, and notes."""
    metrics = dict.fromkeys(difference.metric for difference in comparison.differences)
    rows: list[list[str]] = []
    for metric in sorted(metrics, key=lambda name: (name not in ACCURACIES, name)):
        rows += [[metric, "A", "B", "B - A", "95% interval", "examples", ""]]
        rows += [_difference_row(d) for d in comparison.differences if d.metric == metric]
    lines = [f"A: {comparison.a}", f"B: {comparison.b}"]
    ends = [
        f"{comparison.matched:,} examples of tasks are in both; "
        f"{comparison.unmatched['a']:,} only in A, {comparison.unmatched['b']:,} only in B.",
        "Each interval is of 95% for itself: of 20 lines without a difference, about one leaves "
        "out 0.",
    ]
    for side, names in comparison.only.items():
        ends += [f"only in {side.upper()}: {', '.join(names)}"] if names else []
    parts = [_wrapped(lines), _fitted(rows), _wrapped([*ends, *comparison.notes])]
    return "\n\n".join(part for part in parts if part)


def _accuracies(results: EvaluationResults) -> str:
    """Of data sets and of tasks without one; columns in which nothing stands are left out."""
    found: list[GroupResult | TaskResult] = list(results.groups.values())
    found += [task for task in results.tasks.values() if task.group is None]
    found = [each for each in found if ACCURACIES[0] in each.metrics]
    header = ["", "accuracy", "norm", "uncond.", "chance", "prompts", "examples", "cut", "dropped"]
    rows = [_accuracy_row(each) for each in sorted(found, key=lambda each: each.name)]
    suite = results.suite
    if suite is not None and ACCURACIES[0] in suite.metrics:
        figures = [_percent(suite.metrics.get(name)) for name in ACCURACIES]
        chance = "" if suite.chance is None else f"{suite.chance:.1f}"
        mean = f"{suite.name}: mean of {len(suite.groups)}"
        rows.append([mean, *figures, chance, "", "", "", ""])
    if not rows:
        return ""
    filled = [any(column) for column in zip(*rows, strict=True)]
    kept = [[cell for cell, keep in zip(row, filled, strict=True) if keep] for row in rows]
    return _fitted([[cell for cell, keep in zip(header, filled, strict=True) if keep], *kept])


def _accuracy_row(result: GroupResult | TaskResult) -> list[str]:
    counts = result.counts
    return [
        result.name,
        *(_percent(result.metrics.get(name)) for name in ACCURACIES),
        "" if result.chance is None else f"{result.chance:.1f}",
        f"{len(result.tasks)}" if isinstance(result, GroupResult) else "",
        f"{counts['examples']:,}",
        *(f"{counts[name]:,}" if counts[name] else "" for name in ("truncated", "dropped")),
    ]


def _other_metrics(results: EvaluationResults) -> str:
    rows = [
        [task.name, name, *_figure(metric), f"{task.counts['examples']:,}"]
        for _, task in sorted(results.tasks.items())
        for name, metric in sorted(task.metrics.items())
        if name not in ACCURACIES
    ]
    if results.suite is not None:
        rows += [
            [results.suite.name, name, *_figure(metric), ""]
            for name, metric in sorted(results.suite.metrics.items())
            if name not in ACCURACIES
        ]
    return _fitted([["", "metric", "value", "", "examples"], *rows]) if rows else ""


def _notes(results: EvaluationResults) -> Iterator[str]:
    yield (
        "±: half of the 95% interval, by bootstrap over examples, and over the prompts of a data "
        f"set ({results.resamples:,} resamples). Accuracies are in percent."
    )
    if ways := sorted({group.over_prompts for group in results.groups.values()}):
        yield f"The figure of a data set is the {' or the '.join(ways)} over its prompts."
    for group in results.groups.values():
        if group.missing:
            yield f"{group.name} lacks {', '.join(group.missing)}."
    suite = results.suite
    if suite is not None and suite.missing:
        total = len(suite.groups) + len(suite.missing)
        yield (
            f"{suite.name} is NOT COMPLETE: {len(suite.groups)} of {total} data sets; it lacks "
            f"{', '.join(suite.missing)}."
        )


def _difference_row(difference: Difference) -> list[str]:
    percent = difference.metric in ACCURACIES
    digits, fewer = (".1f", ".1f") if percent else (".4g", ".3g")
    bounds = difference.interval
    return [
        f"  {difference.name}" + (": mean" if difference.level == "suite" else ""),
        f"{difference.a:{digits}}",
        f"{difference.b:{digits}}",
        f"{difference.difference:+{fewer}}",
        "" if bounds is None else f"[{bounds[0]:+{fewer}}, {bounds[1]:+{fewer}}]",
        f"{difference.examples:,}",
        difference.verdict,
    ]


def _percent(metric: Metric | None) -> str:
    if metric is None:
        return ""
    return f"{metric.value:.1f}" + (
        f" ±{(metric.interval[1] - metric.interval[0]) / 2:.1f}" if metric.interval else ""
    )


def _figure(metric: Metric) -> tuple[str, str]:
    low, high = metric.interval or (metric.value, metric.value)
    return f"{metric.value:.4g}", f"±{(high - low) / 2:.2g}" if metric.interval else ""


def _fitted(rows: Sequence[Sequence[str]]) -> str:
    """A table whose names are shortened in the middle if it would be too wide."""
    if not rows:
        return ""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    room = WIDTH - sum(widths[1:]) - 2 * len(widths[1:])
    return table([[_shortened(row[0], room), *row[1:]] for row in rows], numbers_from=1)


def _shortened(name: str, room: int) -> str:
    if len(name) <= room:
        return name
    end = (room - 1) // 2
    return f"{name[: room - 1 - end]}…{name[len(name) - end :]}"


def _wrapped(lines: Sequence[str] | Iterator[str]) -> str:
    return "\n".join(textwrap.fill(line, WIDTH, subsequent_indent="  ") for line in lines)

"""What a run of a study will do, and what became of the stages of its last run."""

import json
from collections.abc import Iterator, Mapping, Sequence

from etils import epath

from archobj_jax.study.graph import Graph, Stage
from archobj_jax.study.store import Store
from archobj_jax.training.lineage import changed_bindings

_MOST = 4
"""Bindings that are told of one stage."""


def summary(graph: Graph, store: Store) -> str:
    """Lines: what is kept or to be run, takes another's place, is no longer asked, cannot run here.

    A stage takes another's place if it has its pairs, size, seed and evaluation, and another
    fingerprint; the old one stays where it is, and is taken up again if the edit is undone.
    """
    numbers = {stage.fingerprint: number for number, stage in enumerate(graph, start=1)}
    asked = store.ever_asked(graph.name)
    kept = [stage for stage in graph if store.is_done(stage)]
    others = [numbers[each.fingerprint] for each in kept if each.fingerprint not in asked]
    new = [stage for stage in graph if stage not in kept]
    lines = [f"{graph.name}: {len(graph)} stages, {len(kept)} done, {len(new)} to run."]
    if others:
        lines.append(f"  run by another study, and reused: {_ranges(others)}.")
    lines += [
        f"  to run: {numbers[stage.fingerprint]}. {stage.kind}: {stage.label}{_steps(stage)}"
        for stage in new
    ]
    lines += _superseded(graph, store)
    lines += [f"  note: {note}" for note in graph.notes]
    todo = {stage.fingerprint for stage in new}
    for need in graph.needs:
        if not need.here and (of := [each for each in need.stages if each in todo]):
            lines.append(f"  WILL FAIL HERE: {graph.numbered(of)}: {need.what}.")
    return "\n".join(lines)


def _superseded(graph: Graph, store: Store) -> list[str]:
    """What the last run of the study asked for and this one does not, and why."""
    before = store.last_graph(graph.name)
    old = {
        about["place"]: about
        for fingerprint, about in before.items()
        if fingerprint not in graph.stages
        and epath.Path(f"{store.root}/stages/{about['folder']}").exists()
    }
    instead = {stage.place: stage for stage in graph if stage.place in old}
    new = [stage for stage in graph if stage.fingerprint not in before]
    for place in sorted(old.keys() - instead.keys()):
        free = [stage for stage in new if stage not in instead.values()]
        alike = (stage for stage in free if _unbudgeted(stage.place) == _unbudgeted(place))
        if found := next(alike, None):
            instead[place] = found
    lines, evaluations = [], 0
    for place, about in old.items():
        if place not in instead:
            continue
        stage = instead[place]
        own = list(_why(about, stage))
        if stage.evaluation is not None and not own:
            evaluations += 1
            continue
        why = [*_budgets(place, stage.place), *own]
        if not why:
            parent = graph.parent(stage)
            why = [
                f"what it starts from changed ({parent.label})" if parent else "its length changed"
            ]
        lines.append(f"  superseded: {about['label']}: {'; '.join(why)}")
        lines.append(f"    the old one stays: {store.root}/stages/{about['folder']}")
    if evaluations:
        lines.append(f"  superseded with what they evaluate (stay): {evaluations} evaluations")
    gone = sorted(about["label"] for place, about in old.items() if place not in instead)
    return lines + [f"  no longer asked for (stays): {label}" for label in gone]


def _unbudgeted(place: str) -> list[object]:
    """A `Stage.place` without the budgets."""
    chain, *rest = json.loads(place)
    return [[pair for pair, _ in chain], *rest]


def _budgets(before: str, now: str) -> Iterator[str]:
    """How the budgets of two places differ that are alike without them."""
    for (pair, old), (_, new) in zip(json.loads(before)[0], json.loads(now)[0], strict=True):
        if old != new:
            yield f"budget of {pair}: {old} -> {new}"


def _ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers as `1-4, 6`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if run[1:] else f"{run[0]}" for run in runs)


def _steps(stage: Stage) -> str:
    """What was asked for in steps, or comes to so many."""
    if stage.evaluation is not None:
        return ""
    return f", {stage.total_steps - stage.start_step:,} steps"


def _why(old: Mapping[str, str], stage: Stage) -> Iterator[str]:
    """What of the stage itself is another than it was."""
    changed = changed_bindings(old["config"], stage.config)
    yield from changed[:_MOST]
    if more := changed[_MOST:]:
        yield f"{len(more)} more bindings"
    if old["data"] != stage.data:
        yield "its data are others"

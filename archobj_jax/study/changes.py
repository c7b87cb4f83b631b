"""What a run of a study will do, and what became of the stages of its last run."""

from collections.abc import Iterator

from etils import epath

from archobj_jax.study.graph import Graph, Stage
from archobj_jax.study.store import Store
from archobj_jax.training.lineage import changed_bindings

_MOST = 4
"""Bindings that are told of one stage."""


def summary(graph: Graph, store: Store) -> str:
    """Lines: what is kept, what is to be run, what takes another's place, what is no longer asked.

    A stage takes another's place if it has its chain, size, seed and evaluation, and another
    fingerprint; the old one stays where it is, and is taken up again if the edit is undone.
    """
    before = store.last_graph(graph.name)
    asked = store.ever_asked(graph.name)
    old = {
        about["place"]: about
        for fingerprint, about in before.items()
        if fingerprint not in graph.stages
        and epath.Path(f"{store.root}/stages/{about['folder']}").exists()
    }
    kept = [stage for stage in graph if store.is_done(stage)]
    elsewhere = sum(stage.fingerprint not in asked for stage in kept)
    new = [
        f"{number}. {stage.kind}: {stage.label}{_steps(stage)}"
        for number, stage in enumerate(graph, start=1)
        if not store.is_done(stage)
    ]
    superseding = {stage.place: stage for stage in graph if stage.place in old}
    lines = [f"{graph.name}: {len(graph)} stages, {len(kept)} done, {len(new)} to run."]
    if kept and elsewhere:
        lines.append(f"  {elsewhere} of those done were run by another study; they are reused.")
    lines += [f"  to run: {each}" for each in new]
    for place, stage in superseding.items():
        lines.append(f"  superseded: {stage.label}: {'; '.join(_why(stage, old[place], graph))}")
        lines.append(f"    the old one stays: {store.root}/stages/{old[place]['folder']}")
    gone = sorted(about["label"] for place, about in old.items() if place not in superseding)
    lines += [f"  no longer asked for (stays): {label}" for label in gone]
    lines += [f"  note: {note}" for note in graph.notes]
    return "\n".join(lines)


def _steps(stage: Stage) -> str:
    """What was asked for in steps, or comes to so many."""
    if stage.evaluation is not None:
        return ""
    return f", {stage.total_steps - stage.start_step:,} steps"


def _why(stage: Stage, old: dict[str, str], graph: Graph) -> Iterator[str]:
    changed = changed_bindings(old["config"], stage.config)
    yield from changed[:_MOST]
    if more := changed[_MOST:]:
        yield f"{len(more)} more bindings"
    if old["data"] != stage.data:
        yield "its data are others"
    if not changed and old["data"] == stage.data:
        parent = graph.parent(stage)
        yield f"what it starts from changed ({parent.label})" if parent else "its length changed"

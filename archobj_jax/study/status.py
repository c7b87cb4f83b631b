"""`archobj study status`: where every stage stands."""

from typing import Any

from archobj_jax.study.graph import Graph, Stage
from archobj_jax.study.store import Store
from archobj_jax.tables import table

_HEADER = ("", "stage", "state", "step", "loss", "tokens/s", "left")


def status_table(graph: Graph, store: Store) -> str:
    """A line for each stage, how many are in which state, and notes."""
    rows: list[tuple[str, ...]] = [_HEADER]
    states = []
    for number, stage in enumerate(graph, start=1):
        state = store.state(stage, graph)
        states.append(state)
        rows.append((f"{number}", stage.label, state, *_figures(stage, store, state)))
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    notes = "".join(f"\nnote: {note}" for note in graph.notes)
    return f"{table(rows, numbers_from=3)}\n\n{counts}{notes}"


def _figures(stage: Stage, store: Store, state: str) -> tuple[str, str, str, str]:
    """Step, loss, rate and time left."""
    records = [record for record in store.records(stage) if "loss" in record]
    if not records:
        return "", "", "", ""
    last = records[-1]
    step = last["step"] - stage.start_step
    rate = last["tokens_per_second"]
    return (
        f"{step:,} of {stage.total_steps - stage.start_step:,}",
        "not finite" if last["loss"] is None else f"{last['loss']:.3f}",
        f"{rate:,.0f}",
        "" if state == "done" else _duration(_seconds_left(stage, last)),
    )


def _seconds_left(stage: Stage, last: dict[str, Any]) -> float:
    return float((stage.total_steps - last["step"]) * last["seconds_per_step"])


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"

"""What a run's data are, as a table to read."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from archobj_jax import tables
from archobj_jax.data.packing_statistics import Statistics
from archobj_jax.data.parts import Component
from archobj_jax.objectives import Layout

if TYPE_CHECKING:
    from archobj_jax.data.loader import DatasetConfig

_COLUMNS = ("task", "objective", "rate", "documents", "tokens")
_PACKED_COLUMNS = ("examples an epoch", "left out", "inputs cut", "targets cut")


def table(
    config: "DatasetConfig",
    tasks: Sequence[Component],
    plans: Sequence[Statistics],
    layout: Layout,
) -> str:
    """Returns lines of text: of each task what is cached, of what is packed rows and padding.

    "documents" are examples where they are given; "examples an epoch" is how many of them an epoch
    of the packed rows has, repeats counted, and "left out" how many it never has; "inputs cut" and
    "targets cut" are the shares of those that were truncated to their length.
    """
    packed = {task.task: task for plan in plans for task in plan.tasks}
    columns = _COLUMNS + _PACKED_COLUMNS if packed else _COLUMNS
    rows = [list(columns)]
    for component in tasks:
        found = component.opened.manifest
        row = [
            component.task.name,
            component.objective.symbol,
            f"{component.rate:.4f}",
            f"{found.documents:,}",
            f"{found.tokens:,}",
        ]
        if part := packed.get(component.task.name):
            row += [
                f"{part.examples:,}",
                f"{max(part.available - part.examples, 0):,}",
                f"{part.truncated_inputs / part.examples:.2%}",
                f"{part.truncated_targets / part.examples:.2%}",
            ]
        rows.append(row + [""] * (len(columns) - len(row)))
    first = tasks[0].opened.manifest
    lengths = config.task_feature_lengths
    listed = ", ".join(f"{name} {length:,}" for name, length in lengths.items())
    lines = [
        f"{config.mixture_or_task_name}, split {config.split}, lengths {listed}",
        f"vocabulary {first.vocabulary}, fingerprint {first.vocabulary_fingerprint}",
        "",
        tables.table(rows, numbers_from=2),
        *(line for plan in plans for line in _packed(plan, layout.room(lengths))),
    ]
    return "\n".join(lines) + "\n"


def _packed(plan: Statistics, room: dict[str, int]) -> list[str]:
    sides = " and ".join(f"{length:,} {side}" for side, length in room.items())
    padding = f"padding {plan.padding:.2%}"
    if len(room) > 1:
        padding += " (" + ", ".join(f"{s} {p:.2%}" for s, p in plan.padding_by_side.items()) + ")"
    repeats = sum(task.repeats for task in plan.tasks)
    left_out = sum(max(task.available - task.examples, 0) for task in plan.tasks)
    return [
        "",
        f"packed, an epoch: {plan.rows:,} rows of {sides}; {plan.examples:,} examples of "
        f"{plan.tokens:,} tokens, {padding}",
        f"{repeats:,} of the examples are repeats, {left_out:,} are left out",
    ]

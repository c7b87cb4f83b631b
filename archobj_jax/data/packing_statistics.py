"""What a packing plan holds: rows, padding, and of each task examples, repeats and what was cut."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class TaskStatistics:
    """One task's part of a plan. What is cut is counted as often as the example occurs.

    Attributes:
      task: its name.
      available: examples that the task has.
      examples: of the plan.
      share: of the plan's examples.
      repeats: examples of the plan that occur in it before.
      tokens: of inputs and targets, after cutting.
      truncated_inputs, truncated_targets: examples that are cut on that side.
      cut_inputs, cut_targets: tokens that are cut off there.
    """

    task: str
    available: int
    examples: int
    share: float
    repeats: int
    tokens: int
    truncated_inputs: int
    cut_inputs: int
    truncated_targets: int
    cut_targets: int

    @classmethod
    def of(
        cls, task: str, available: int, share: float, whole: np.ndarray, cut: np.ndarray
    ) -> "TaskStatistics":
        """Counts integer [examples, 2], inputs and targets: `whole` documents, `cut` to lengths."""
        lost = whole - cut
        return cls(
            task=task,
            available=available,
            examples=len(cut),
            share=share,
            repeats=max(len(cut) - available, 0),
            tokens=int(cut.sum()),
            truncated_inputs=int(np.count_nonzero(lost[:, 0])),
            cut_inputs=int(lost[:, 0].sum()),
            truncated_targets=int(np.count_nonzero(lost[:, 1])),
            cut_targets=int(lost[:, 1].sum()),
        )


@dataclass(frozen=True)
class Statistics:
    """All of a plan.

    Attributes:
      rows: of one epoch.
      examples: in them.
      tokens: of inputs and targets in them, after cutting.
      padding: share of the rows' positions that hold nothing.
      padding_by_side: the same by side of the row. Where a row has two sides, one of them fills
        first: the other is as empty as the data's proportion of inputs to targets makes it.
      tasks: each task's part.
    """

    rows: int
    examples: int
    tokens: int
    padding: float
    padding_by_side: dict[str, float]
    tasks: tuple[TaskStatistics, ...]

    @classmethod
    def of(
        cls, rows: int, used: np.ndarray, room: Mapping[str, int], tasks: list[TaskStatistics]
    ) -> "Statistics":
        """Sums up `rows` rows with `room` a side, int [sides] positions of which are `used`."""
        capacity = rows * np.array(list(room.values()))
        by_side = 1 - used / capacity
        return cls(
            rows=rows,
            examples=sum(task.examples for task in tasks),
            tokens=sum(task.tokens for task in tasks),
            padding=float(1 - used.sum() / capacity.sum()),
            padding_by_side=dict(zip(room, by_side.tolist(), strict=True)),
            tasks=tuple(tasks),
        )

    @classmethod
    def of_json(cls, content: Mapping[str, Any]) -> "Statistics":
        """Returns the statistics whose `dataclasses.asdict` JSON has kept."""
        tasks = tuple(TaskStatistics(**task) for task in content["tasks"])
        return cls(**{**content, "tasks": tasks})

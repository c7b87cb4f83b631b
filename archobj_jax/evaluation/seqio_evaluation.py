"""SeqIO tasks in an evaluation: found by their names; each has results, or a reason for none."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import seqio

from archobj_jax.data import registry, vocabularies
from archobj_jax.errors import UserError
from archobj_jax.evaluation.results import TaskResult
from archobj_jax.evaluation.seqio_tasks import Reading
from archobj_jax.evaluation.statistics import Bootstrap
from archobj_jax.evaluation.task_evaluation import prepare
from archobj_jax.inference.runner import Runner

if TYPE_CHECKING:
    from archobj_jax.evaluation.evaluate import SeqioTasks


@dataclass(frozen=True)
class SeqioEvaluation:
    """The tasks that a configuration names.

    Attributes:
      config: names them, and says what is read of them.
      tasks: each once, in the order of the names.
    """

    config: "SeqioTasks"
    tasks: Sequence[seqio.Task]

    @classmethod
    def of(cls, config: "SeqioTasks") -> "SeqioEvaluation":
        """Finds the tasks.

        Raises:
          UserError: a name is not registered, or has no such split.
        """
        found = {
            task.name: task
            for name in config.names
            for task in registry.tasks(registry.find(name, config.module), config.split)
        }
        return cls(config, tuple(found.values()))

    @property
    def data_sets(self) -> dict[str, str | None]:
        """The data set that each task is of, by name; None for none."""
        return {task.name: getattr(task.source, "group", None) for task in self.tasks}

    def results(
        self,
        runner: Runner,
        bootstrap: Bootstrap,
        *,
        vocabulary: Mapping[str, str],
        cache_dir: str,
        tell_failure: Callable[[str, str], None],
    ) -> tuple[list[TaskResult], dict[str, str]]:
        """Results of the tasks, and why others have none, by name.

        Args:
          runner: the model at work.
          bootstrap: for the intervals.
          vocabulary: "title" and "fingerprint" of the model's.
          cache_dir: where the tasks' vocabulary lies if it is one that is made there.
          tell_failure: is called with a task's name and why it has none, at once.
        """
        config = self.config
        reading = Reading(config.split, config.task_feature_lengths, config.num_examples)
        made: list[TaskResult] = []
        failed: dict[str, str] = {}
        for task in self.tasks:
            try:
                _check_vocabulary(task, vocabulary, cache_dir)
                prepared = prepare(task, reading, unconditional=config.unconditional)
                made.append(prepared.evaluate(runner, bootstrap))
            except UserError as error:
                failed[task.name] = str(error)
                tell_failure(task.name, str(error))
        return made, failed


def _check_vocabulary(task: seqio.Task, expected: Mapping[str, str], cache_dir: str) -> None:
    """Checks that a task's token ids mean to the model what they mean to the task."""
    ours = registry.vocabulary(task)
    vocabularies.load(ours, cache_dir)
    fingerprint = vocabularies.fingerprint(ours)
    if fingerprint != expected["fingerprint"]:
        raise UserError(
            f"task {task.name} has the vocabulary {vocabularies.title(ours)} (fingerprint "
            f"{fingerprint}), the checkpoint was trained with {expected['title']} (fingerprint "
            f"{expected['fingerprint']}); evaluate on a task that has the latter."
        )

"""Tasks of the EleutherAI harness (extra `eval`) in `archobj evaluate`."""

import contextlib
import dataclasses
import functools
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from archobj_jax.errors import UserError, did_you_mean
from archobj_jax.evaluation.boundaries import MAX_LENGTH
from archobj_jax.evaluation.lm_eval import require
from archobj_jax.evaluation.results import TaskResult
from archobj_jax.evaluation.statistics import Bootstrap
from archobj_jax.inference.runner import Runner


@dataclasses.dataclass(frozen=True)
class HarnessTasks:
    """Tasks of the harness to evaluate.

    Attributes:
      names: of tasks, groups or tags, or paths of YAML files; one or several.
      include_path: a folder with YAML files of more tasks.
      limit: documents of each task, the first; None for all.
      num_fewshot: examples before each document.
      max_length: tokens that are read of one example; what is longer loses its beginning.
      seed: of the examples that are drawn, and of random generation.
    """

    names: str | Sequence[str] = ()
    include_path: str | None = None
    limit: int | None = None
    num_fewshot: int = 0
    max_length: int = MAX_LENGTH
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.limit is not None and self.limit < 1) or self.num_fewshot < 0:
            raise UserError(
                f"HarnessTasks: limit = {self.limit} must be at least 1, or None, and num_fewshot "
                f"= {self.num_fewshot} not negative."
            )

    @property
    def all_names(self) -> tuple[str, ...]:
        """The names as a tuple."""
        return (self.names,) if isinstance(self.names, str) else tuple(self.names)

    def evaluate(
        self, runner: Runner, bootstrap: Bootstrap, tell: Callable[[str, str], None]
    ) -> tuple[list[TaskResult], dict[str, str]]:
        """Evaluates each task by itself, so that one that fails leaves the others alone.

        Args:
          runner: the model at work.
          bootstrap: for intervals.
          tell: called at once with the name of a task that fails, and why.

        Returns:
          The results, and why others have none, by name. A task is a data set of its own: its
          group has its name.

        Raises:
          UserError: the harness is not installed, or there is no such folder.
          MachineError: results cannot be kept.
        """
        require()
        index = _Index(self.include_path)
        made: list[TaskResult] = []
        failed: dict[str, str] = {}

        def fail(name: str, error: UserError) -> None:
            failed[name] = str(error)
            tell(name, str(error))

        for name in dict.fromkeys(self.all_names):
            try:
                tasks = index.load(name)
            except UserError as error:
                fail(name, error)
                continue
            for task in tasks:
                try:
                    made.append(self._evaluate(task, runner, bootstrap))
                except UserError as error:
                    fail(str(task.task_name), error)
        return made, failed

    def _evaluate(self, task: Any, runner: Runner, bootstrap: Bootstrap) -> TaskResult:
        from lm_eval import evaluate

        from archobj_jax.evaluation.harness import HarnessLM
        from archobj_jax.evaluation.harness_results import Found

        name = str(task.task_name)
        lm = HarnessLM(runner, name=name, max_length=self.max_length, seed=self.seed)
        with _explained(f"task '{name}' of the harness cannot be evaluated"):
            if task.get_config("num_fewshot") != 0:  # a task that says 0 insists
                task.set_config(key="num_fewshot", value=self.num_fewshot)
            task.set_fewshot_seed(seed=self.seed)
            results = evaluate(
                lm=lm, task_dict={"tasks": {name: task}}, limit=self.limit, bootstrap_iters=0
            )
            found = Found.of(task, lm, results)
        try:
            return found.result(bootstrap)
        except ValueError as error:
            raise UserError(f"task '{name}' of the harness cannot be evaluated: {error}") from error


@dataclasses.dataclass(frozen=True)
class _Index:
    """Finds tasks by name. The harness's own are listed only when needed, which takes a while."""

    include_path: str | None

    def __post_init__(self) -> None:
        if self.include_path is not None and not Path(self.include_path).is_dir():
            raise UserError(
                f"{self.include_path} is no folder; expected one with YAML files of harness tasks."
            )

    def load(self, name: str) -> list[Any]:
        """The tasks that `name` stands for.

        Raises:
          UserError: there is none of that name, or it cannot be loaded; says why.
        """
        manager = self._manager(name)
        offline = "; where there is no network, give it local files (docs/harness.md)"
        with _explained(f"task '{name}' of the harness cannot be loaded", advice=offline):
            return list(manager.load([name])["tasks"].values())

    def _manager(self, name: str) -> Any:
        if name.endswith(".yaml"):
            if not Path(name).is_file():
                raise UserError(f"{name} does not exist; expected a YAML file of a harness task.")
            return self._given
        if name in self._given.all_subtasks:
            return self._given
        if name not in self._all.all_tasks:
            hint = did_you_mean(name, self._all.all_tasks) or (
                " `python -m archobj_jax.evaluation.lm_eval ls tasks` lists them."
            )
            raise UserError(f"the harness has no task '{name}'.{hint}")
        return self._all

    @functools.cached_property
    def _given(self) -> Any:
        from lm_eval.tasks import TaskManager

        return TaskManager(include_path=self.include_path, include_defaults=False)

    @functools.cached_property
    def _all(self) -> Any:
        from lm_eval.tasks import TaskManager

        return TaskManager(include_path=self.include_path)


@contextlib.contextmanager
def _explained(what: str, advice: str = "") -> Iterator[None]:
    """Turns what the harness and a task's own code raise into a message; our own errors pass."""
    try:
        yield
    except Exception as error:
        modules = {
            frame.f_globals["__name__"] for frame, _ in traceback.walk_tb(error.__traceback__)
        }
        if any(name.startswith("archobj_jax.") for name in modules - {__name__}):
            raise
        reason = next(iter(str(error).strip().splitlines()), "")
        raise UserError(f"{what}: {type(error).__name__}: {reason.rstrip('.')}{advice}.") from error

"""What an evaluation returns: one JSON file, documented in docs/evaluation_results.md."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from etils import epath

from archobj_jax.errors import MachineError, UserError
from archobj_jax.evaluation import json_records
from archobj_jax.evaluation.examples import Document, Kind, RankedExample, ScoredExample
from archobj_jax.evaluation.statistics import OverPrompts

SCHEMA = "archobj_jax.evaluation/1"
"""Version of the file's schema; another number is another set of fields."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
    """A figure, and where it lies if other examples and prompts had been drawn.

    Attributes:
      value: in percent for accuracies, in nats a token for `loss`, else in the metric's own unit.
      interval: of 95%, by bootstrap; None with fewer than two examples, and for a metric that is
        not a mean over examples.
      higher_is_better: how to compare it.
    """

    value: float
    interval: tuple[float, float] | None
    higher_is_better: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskResult:
    """One task: a data set under one prompt, a task of the harness, a corpus.

    Attributes:
      name: of the task.
      kind: "rank", "metrics" or "loss"; says what its examples are.
      group: the data set whose prompt this is; None if it stands for itself.
      prompt: name of the prompt, if there is one.
      split: which of the data set's.
      chance: accuracy of taking any choice, in percent; None if there is none.
      counts: of "examples", of those "truncated", and of examples "dropped", which are not among
        the former; for a loss also "tokens" and "bytes".
      metrics: by name.
      examples: one record each, all of one class.
    """

    name: str
    kind: Kind
    group: str | None
    prompt: str | None
    split: str
    chance: float | None
    counts: Mapping[str, int]
    metrics: Mapping[str, Metric]
    examples: tuple[RankedExample | ScoredExample | Document, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class GroupResult:
    """A data set: its prompts' figures as one.

    Attributes:
      name: of the data set.
      tasks: its prompts, as tasks of the file.
      missing: tasks that belong to it and have no result.
      over_prompts: how prompts become one figure.
      chance: likewise over prompts; None if a prompt has none.
      counts: different "examples"; summed over prompts those "truncated" and "dropped".
      metrics: those that all its examples have.
    """

    name: str
    tasks: tuple[str, ...]
    missing: tuple[str, ...]
    over_prompts: OverPrompts
    chance: float | None
    counts: Mapping[str, int]
    metrics: Mapping[str, Metric]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SuiteResult:
    """The mean over data sets, which are fixed: only their examples and prompts are resampled.

    Attributes:
      name: of the suite.
      groups: the data sets that the mean is over.
      missing: data sets of the suite that have no result.
      chance: mean over data sets; None if one has none.
      metrics: those that all data sets have.
    """

    name: str
    groups: tuple[str, ...]
    missing: tuple[str, ...]
    chance: float | None
    metrics: Mapping[str, Metric]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lineage:
    """Where a checkpoint comes from.

    Attributes:
      notation: the paper's, `CD:FLM (168B) → ND:MTF (13B)`.
      stages: fields of `training.lineage.Stage`, oldest first.
    """

    notation: str
    stages: tuple[Mapping[str, Any], ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What was evaluated.

    Attributes:
      path: of the checkpoint.
      step: global step.
      lineage: the stages before.
      model: `training.lineage.model_record`: architecture, network, vocabulary.
    """

    path: str
    step: int
    lineage: Lineage
    model: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationResults:
    """The content of a results file.

    Attributes:
      schema: `SCHEMA`.
      checkpoint: what was evaluated.
      versions: of Python and of packages, by name.
      settings: what else the figures depend on, as JSON.
      seed: of the evaluation, and of its intervals.
      resamples: number of bootstrap resamples behind each interval.
      tasks, groups: by name.
      suite: None if no suite was evaluated.
      failed: why a task has no result, by its name.
    """

    checkpoint: Checkpoint
    versions: Mapping[str, str]
    settings: Mapping[str, Any]
    seed: int
    resamples: int
    tasks: Mapping[str, TaskResult]
    groups: Mapping[str, GroupResult]
    suite: SuiteResult | None
    failed: Mapping[str, str]
    schema: str = SCHEMA

    def write(self, path: str) -> None:
        """Writes the file, whole or not at all; `path` may be remote.

        Raises:
          UserError: `path` is a folder, or a number is not finite.
          MachineError: it cannot be written.
        """
        text = json_records.dumps(self)
        target = epath.Path(path)
        if target.is_dir():
            raise UserError(f"{path} is a folder, expected a file to write results to.")
        temporary = target.with_name(f"{target.name}.tmp")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(text)
            temporary.replace(target)
        except OSError as error:
            raise MachineError(
                f"{path} cannot be written ({error}), so these results are not kept; what was "
                "there is intact. Free space or mend the storage, then run the same command again."
            ) from error


def read(path: str) -> EvaluationResults:
    """Reads a file that `EvaluationResults.write` wrote.

    Raises:
      UserError: there is none, or it is not one of this schema; says where.
      MachineError: it cannot be read now.
    """
    expected = "expected a results file, as `archobj evaluate` writes it"
    try:
        text = epath.Path(path).read_text()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        what = "does not exist" if isinstance(error, FileNotFoundError) else "is no file"
        raise UserError(f"{path} {what}; {expected}.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text; {expected}.") from error
    except OSError as error:
        raise MachineError(f"{path} cannot be read now ({error}); nothing was changed.") from error
    try:
        content = json_records.loads(text)
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}); {expected}.") from error
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA:
        what = "has no schema" if schema is None else f"has the schema {schema}"
        raise UserError(f"{path} {what}; {expected} ({SCHEMA}).")
    try:
        return json_records.decode(EvaluationResults, content)
    except json_records.MismatchError as error:
        where = error.path or "the file"
        raise UserError(
            f"{path} is no results file of {SCHEMA}: {where}: {error.message}"
        ) from error

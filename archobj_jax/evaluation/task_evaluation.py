"""SeqIO tasks, ready to be evaluated: examples to rank, to score, or to compute metrics of."""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import seqio

from archobj_jax.evaluation import aggregation, seqio_tasks
from archobj_jax.evaluation.examples import Choice, Document, RankedExample
from archobj_jax.evaluation.results import TaskResult
from archobj_jax.evaluation.seqio_metrics import MetricTask
from archobj_jax.evaluation.seqio_tasks import DocumentRecord, RankedRecord, Reading
from archobj_jax.evaluation.statistics import Bootstrap
from archobj_jax.inference.questions import Question, Total
from archobj_jax.inference.runner import Runner


class PreparedTask(Protocol):
    """A task whose examples have been read."""

    def evaluate(self, runner: Runner, bootstrap: Bootstrap) -> TaskResult:
        """The task's result with a model.

        Raises:
          UserError: a result cannot be used; says why.
          MachineError: it cannot be kept.
        """


def prepare(task: seqio.Task, reading: Reading, *, unconditional: bool) -> PreparedTask:
    """Reads a task's examples.

    Args:
      task: to be evaluated.
      reading: which of its examples, and how long.
      unconditional: whether ranked choices are scored without their inputs too.

    Raises:
      UserError: it has no examples, or one that cannot be evaluated; says which and why.
      MachineError: they cannot be read.
    """
    kind = seqio_tasks.kind_of(task, reading)
    if kind == "rank":
        records = seqio_tasks.ranked_records(task, reading)
        return RankTask(seqio_tasks.about(task, reading, kind), tuple(records), unconditional)
    if kind == "metrics":
        return MetricTask.of(task, reading)
    documents = seqio_tasks.documents(task, reading)
    return LossTask(seqio_tasks.about(task, reading, kind), tuple(documents))


@dataclasses.dataclass(frozen=True)
class RankTask:
    """Rank classification: the choice with the highest log likelihood is the answer.

    Attributes:
      about: the task.
      records: its examples.
      unconditional: whether choices are scored after empty inputs too.
    """

    about: aggregation.About
    records: tuple[RankedRecord, ...]
    unconditional: bool

    def evaluate(self, runner: Runner, bootstrap: Bootstrap) -> TaskResult:
        """See `PreparedTask`."""
        scores = runner.score(self.about.name, [record.question for record in self.records])
        alone = self._unconditional(runner) if self.unconditional else None
        examples = [
            _ranked(record, totals, alone)
            for record, totals in zip(self.records, scores, strict=True)
        ]
        return aggregation.ranked_task(self.about, examples, bootstrap=bootstrap)

    def _unconditional(self, runner: Runner) -> dict[bytes, float]:
        """Log likelihood of each different choice after empty inputs, by its tokens."""
        choices = {c.tobytes(): c for record in self.records for c in record.question.choices}
        questions = [Question(choice[:0], (choice,)) for choice in choices.values()]
        scores = runner.score(f"{self.about.name}, choices alone", questions)
        return {key: score.total for key, (score,) in zip(choices, scores, strict=True)}


@dataclasses.dataclass(frozen=True)
class LossTask:
    """The loss of a corpus, or of targets given inputs.

    Attributes:
      about: the task.
      documents: its documents or examples.
    """

    about: aggregation.About
    documents: tuple[DocumentRecord, ...]

    def evaluate(self, runner: Runner, bootstrap: Bootstrap) -> TaskResult:
        """See `PreparedTask`."""
        questions = [question for document in self.documents for question in document.questions]
        scores = iter(runner.score(self.about.name, questions))
        made = [
            Document(
                id=document.id,
                truncated=document.truncated,
                nats=-sum(next(scores)[0].total for _ in document.questions),
                tokens=document.tokens,
                bytes=document.bytes,
            )
            for document in self.documents
        ]
        return aggregation.loss_task(self.about, made, bootstrap=bootstrap)


def _ranked(
    record: RankedRecord, scores: Sequence[Total], alone: dict[bytes, float] | None
) -> RankedExample:
    tokens = record.question.choices
    choices = tuple(
        Choice(
            log_likelihood=score.total,
            tokens=choice.size,
            bytes=len(text.encode()),
            text=text,
            is_greedy=score.is_greedy,
            unconditional=None if alone is None else alone[choice.tobytes()],
        )
        for choice, text, score in zip(tokens, record.choices, scores, strict=True)
    )
    return RankedExample(
        id=record.id,
        truncated=record.truncated,
        choices=choices,
        gold=record.gold,
        inputs=record.inputs,
        weight=record.weight,
    )

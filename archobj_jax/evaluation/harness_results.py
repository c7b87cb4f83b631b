"""From what the harness found about a task's documents to a task's result."""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lm_eval.api.metrics import mean
from lm_eval.api.task import ConfigurableTask, Task

from archobj_jax.errors import UserError
from archobj_jax.evaluation import aggregation
from archobj_jax.evaluation.aggregation import About
from archobj_jax.evaluation.examples import Choice, Document, RankedExample, ScoredExample
from archobj_jax.evaluation.harness import HarnessLM
from archobj_jax.evaluation.results import Metric, TaskResult
from archobj_jax.evaluation.statistics import Bootstrap

Sample = Mapping[str, Any]
"""What the harness logs of a document under one of the task's filters; its `SampleResult`."""


@dataclasses.dataclass(frozen=True)
class Found:
    """A task that the harness has evaluated.

    Attributes:
      task: the harness's.
      lm: what answered.
      samples: of each document, under each of the task's filters.
      metrics: of all documents, by `<metric>,<filter>`.
      higher_is_better: by metric.
    """

    task: Task
    lm: HarnessLM
    samples: Sequence[Sample]
    metrics: Mapping[str, float]
    higher_is_better: Mapping[str, bool | None]

    @classmethod
    def of(cls, task: Task, lm: HarnessLM, results: Mapping[str, Any]) -> "Found":
        """From the `EvalResults` of this task alone, with its samples."""
        (name,) = results["samples"]
        metrics = {
            key: float(value)
            for key, value in results["results"][name].items()
            if "," in key and not key.partition(",")[0].endswith("_stderr")
        }
        higher_is_better = results["higher_is_better"][name]
        return cls(task, lm, results["samples"][name], metrics, higher_is_better)

    def result(self, bootstrap: Bootstrap) -> TaskResult:
        """Ranked choices, documents with their loss, or examples with metrics of the task's own.

        The harness's `acc`, in percent, is `accuracy` here; so is `exact_match` where a task has no
        other. Metrics that are not means over documents (F1, perplexity) are those that the harness
        computed; so is its `acc_norm`, which divides by characters.

        Raises:
          UserError: an answer is none of the choices, or a number is not finite; says which.
        """
        about = About(name=self._name, split=self._split, group=self._name)
        if self._is_plain("multiple_choice") and "acc" in self.samples[0]["metrics"]:
            ranked = [self._ranked(sample) for sample in self._first_filter()]
            result = aggregation.ranked_task(about, ranked, bootstrap=bootstrap)
            return self._with_whole(result, leave_out={"acc"})
        if self._is_plain("loglikelihood_rolling"):
            documents = [self._document(sample) for sample in self._first_filter()]
            result = aggregation.loss_task(about, documents, bootstrap=bootstrap)
            return self._with_whole(result, leave_out={"bits_per_byte"})
        return self._scored_task(about, bootstrap)

    @property
    def _name(self) -> str:
        return str(self.task.task_name)

    @property
    def _split(self) -> str:
        config = self.task.config
        return str(config.test_split if self.task.has_test_docs() else config.validation_split)

    def _is_plain(self, output_type: str) -> bool:
        """Whether the task is of this type, and leaves it to the harness what a response means."""
        return (
            isinstance(self.task, ConfigurableTask)
            and output_type == self.task.OUTPUT_TYPE
            and not callable(self.task.config.process_results)
        )

    def _first_filter(self) -> Iterator[Sample]:
        first = self.samples[0]["filter"]
        return (sample for sample in self.samples if sample["filter"] == first)

    def _truncated(self, sample: Sample) -> bool:
        return any(arguments[0] in self.lm.truncated for arguments in sample["arguments"])

    def _ranked(self, sample: Sample) -> RankedExample:
        texts = self._choices(sample["doc"])
        asked, scores = sample["arguments"], sample["filtered_resps"]
        alone = [score for score, _ in scores[len(texts) :]] or itertools.repeat(None)
        choices = tuple(
            Choice(
                log_likelihood=score,
                tokens=self.lm.boundaries.pair(*arguments).targets.size,
                bytes=len(text.encode()),
                is_greedy=is_greedy,
                unconditional=unconditional,
                text=text,
            )
            for arguments, (score, is_greedy), text, unconditional in zip(
                asked, scores, texts, alone, strict=False
            )
        )
        return RankedExample(
            id=str(sample["doc_id"]),
            truncated=self._truncated(sample),
            choices=choices,
            gold=self._gold(sample),
            inputs=str(asked[0][0]),
        )

    def _choices(self, doc: Mapping[str, Any]) -> list[str]:
        """The text of each choice, or what follows each where a choice stands in the context."""
        choices = self.task.doc_to_choice(doc)
        if self.task.multiple_input:
            return [str(self.task.doc_to_target(doc))] * len(choices)
        return list(choices)

    def _gold(self, sample: Sample) -> tuple[int, ...]:
        doc, choices = sample["doc"], self.task.doc_to_choice(sample["doc"])
        gold = self.task.doc_to_text(doc) if self.task.multiple_input else sample["target"]
        found = [
            choices.index(answer) if isinstance(answer, str) and answer in choices else answer
            for answer in (gold if isinstance(gold, list) else [gold])
        ]
        if not found or not all(isinstance(i, int) and 0 <= i < len(choices) for i in found):
            raise UserError(
                f"task '{self._name}', document {sample['doc_id']}: the right answer {gold!r} is "
                f"none of the {len(choices)} choices."
            )
        return tuple(map(int, found))

    def _document(self, sample: Sample) -> Document:
        ((text,),) = sample["arguments"]
        (score,) = sample["filtered_resps"]
        return Document(
            id=str(sample["doc_id"]),
            nats=-score,
            tokens=self.lm.boundaries.tokens(text).size,
            bytes=len(text.encode()),
        )

    def _scored_task(self, about: About, bootstrap: Bootstrap) -> TaskResult:
        by_document: dict[int, list[Sample]] = {}
        for sample in self.samples:
            by_document.setdefault(sample["doc_id"], []).append(sample)
        examples = [self._scored(samples) for samples in by_document.values()]
        names = examples[0].metrics
        better = {name: self._is_better(name.partition(",")[0]) for name in names}
        # Where no choice is taken, nothing is right by chance.
        ranked = self.task.OUTPUT_TYPE == "multiple_choice" and "acc" in self.samples[0]["metrics"]
        chance = 0.0 if "accuracy" in names and not ranked else None
        result = aggregation.scored_task(
            about, examples, bootstrap=bootstrap, higher_is_better=better, chance=chance
        )
        return self._with_whole(result, leave_out={"acc", *names})

    def _scored(self, samples: Sequence[Sample]) -> ScoredExample:
        metrics: dict[str, float] = {}
        for sample in samples:
            for name in sample["metrics"]:
                if self.task.aggregation().get(name) is mean:
                    metrics[self._key(name, sample["filter"])] = float(sample[name])
        right = [name for name in ("acc", "exact_match") if name in samples[0]["metrics"]]
        if right:
            metrics["accuracy"] = 100.0 * float(samples[0][right[0]])
            metrics.pop("acc", None)
        written = samples[0]["filtered_resps"][0]
        target = samples[0]["target"]
        return ScoredExample(
            id=str(samples[0]["doc_id"]),
            truncated=self._truncated(samples[0]),
            metrics=metrics,
            output=written if isinstance(written, str) else None,
            references=tuple(map(str, target if isinstance(target, list) else [target])),
        )

    def _key(self, metric: str, used_filter: str) -> str:
        """The metric's name, with the filter's if there are several."""
        several = len({sample["filter"] for sample in self.samples}) > 1
        return f"{metric},{used_filter}" if several else metric

    def _is_better(self, metric: str) -> bool:
        """Whether more is better; the harness takes it so where a task does not say."""
        return self.higher_is_better.get(metric) is not False

    def _with_whole(self, result: TaskResult, leave_out: set[str]) -> TaskResult:
        """Adds what the harness computed of all documents together."""
        whole = {}
        for key, value in self.metrics.items():
            metric, _, used_filter = key.partition(",")
            name = self._key(metric, used_filter)
            if name in leave_out:
                continue
            if not math.isfinite(value):
                raise UserError(
                    f"task '{self._name}': the metric '{name}' is {value}, expected a finite "
                    "number."
                )
            whole[name] = Metric(
                value=value, interval=None, higher_is_better=self._is_better(metric)
            )
        return dataclasses.replace(result, metrics={**result.metrics, **whole})

"""Reads the examples of a SeqIO task for evaluation, and says what kind of evaluation it gets."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar

import numpy as np
import seqio
import tensorflow as tf

from archobj_jax.errors import UserError
from archobj_jax.evaluation.aggregation import About
from archobj_jax.inference.questions import Question
from archobj_jax.objectives import Objective

Kind = Literal["rank", "metrics", "loss"]
Lengths = Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class Reading:
    """Which examples of a task are read.

    Attributes:
      split: of the task.
      lengths: tokens of "inputs" and of "targets" at most; what is longer is cut at its end.
      num_examples: the first so many; None for all.
    """

    split: str
    lengths: Lengths
    num_examples: int | None = None


@dataclasses.dataclass(frozen=True)
class RankedRecord:
    """A record whose answer is one of several choices.

    Attributes:
      id: its number in the split.
      question: its tokens.
      inputs: its text, uncut.
      choices: the text of each choice.
      gold: indices of the right choices.
      weight: in the accuracies.
      truncated: whether inputs or a choice were cut.
    """

    id: str
    question: Question
    inputs: str
    choices: tuple[str, ...]
    gold: tuple[int, ...]
    weight: float
    truncated: bool


@dataclasses.dataclass(frozen=True)
class DocumentRecord:
    """A document, or an example with inputs, whose loss is wanted.

    Attributes:
      id: its number in the split.
      questions: of one choice each; together they ask for each of its tokens once.
      tokens: that are asked for.
      bytes: of their text, in UTF-8.
      truncated: whether inputs were cut.
    """

    id: str
    questions: tuple[Question, ...]
    tokens: int
    bytes: int
    truncated: bool


def kind_of(task: seqio.Task, reading: Reading) -> Kind:
    """How a task is evaluated: by ranking its choices, by its metric functions, or by its loss."""
    if {"idx", "is_correct"} <= set(_elements(task, reading.split).element_spec):
        return "rank"
    return "metrics" if task.metric_objs else "loss"


def about(task: seqio.Task, reading: Reading, kind: Kind) -> About:
    """What results say of a task that has been read.

    A data set's prompts are one figure if they are evaluated in the same way.
    """
    source = task.source
    group = getattr(source, "group", None)
    return About(
        name=task.name,
        split=reading.split,
        group=group if group is None or kind == "rank" else f"{group}, {kind}",
        prompt=getattr(source, "prompt", None),
        dropped=getattr(source, "left_out", {}).get(reading.split, 0),
    )


def ranked_records(task: seqio.Task, reading: Reading) -> list[RankedRecord]:
    """The records of a task for rank classification, T0's and T5's: one element for each choice.

    Args:
      task: with elements of "inputs", "targets", "idx", "is_correct" and "weight".
      reading: which records.

    Raises:
      UserError: a choice has no tokens, a record no right choice, or there is no record.
      MachineError: the records cannot be read.
    """
    rows = read(task, reading.split)
    grouped = (list(group) for _, group in itertools.groupby(rows, key=lambda r: int(r["idx"][0])))
    wanted = itertools.islice(grouped, reading.num_examples)
    return _some(task, reading, [_record(task, rows, reading.lengths) for rows in wanted])


def documents(task: seqio.Task, reading: Reading) -> list[DocumentRecord]:
    """The documents of a corpus, or the examples of a task with inputs, for their loss.

    A document longer than inputs and targets together is read in windows of that length; from the
    second on, their first half is context. Nothing is cut of it, but inputs that an example has
    are.

    Raises:
      UserError: there is none.
      MachineError: they cannot be read.
    """
    rows = itertools.islice(read(task, reading.split), reading.num_examples)
    made = [
        _document(task, str(number), row, reading.lengths)
        for number, row in enumerate(rows)
        if _text(task.output_features["targets"].vocabulary, row, "targets")
    ]
    return _some(task, reading, made)


def _document(
    task: seqio.Task, id: str, row: Mapping[str, Any], lengths: Lengths
) -> DocumentRecord:
    inputs, targets = row.get("inputs"), cut(row["targets"], len(row["targets"]))
    if inputs is None:
        questions = tuple(_windows(targets, sum(lengths.values())))
    else:
        questions = (Question(cut(inputs, lengths["inputs"]), (targets,)),)
    return DocumentRecord(
        id=id,
        questions=questions,
        tokens=targets.size,
        bytes=len(_text(task.output_features["targets"].vocabulary, row, "targets").encode()),
        truncated=inputs is not None and len(inputs) > lengths["inputs"],
    )


Records = TypeVar("Records", RankedRecord, DocumentRecord)


def _some(task: seqio.Task, reading: Reading, records: list[Records]) -> list[Records]:
    if not records:
        raise UserError(f"the task {task.name} has no examples in its split '{reading.split}'.")
    return records


def _windows(tokens: np.ndarray, length: int) -> Iterator[Question]:
    """All tokens, each once as a target."""
    yield Question(tokens[:0], (tokens[:length],))
    half = max(length // 2, 1)
    for start in range(length, tokens.size, half):
        yield Question(tokens[start - (length - half) : start], (tokens[start : start + half],))


def read(task: seqio.Task, split: str) -> Iterator[dict[str, Any]]:
    """The elements of a split, tokenised, uncut, in their order; without an objective's step.

    Raises:
      UserError, MachineError: what reading them raises.
    """
    try:
        yield from _elements(task, split).as_numpy_iterator()
    except tf.errors.OpError as error:
        # What a source raises inside tf.data arrives as a TensorFlow error; the source kept it.
        if (problem := getattr(task.source, "problem", None)) is not None:
            raise problem from error
        raise UserError(
            f"the split '{split}' of task {task.name} cannot be read: {error.message}"
        ) from error


def cut(tokens: np.ndarray, length: int) -> np.ndarray:
    """The first `length` tokens, int32."""
    return np.asarray(tokens[:length], np.int32)


def _elements(task: seqio.Task, split: str) -> tf.data.Dataset:
    dataset = task.source.get_dataset(split=split, shuffle=False)
    dataset = task.preprocess_precache(dataset, seed=0)
    if any(isinstance(step, Objective) for step in task.preprocessors):
        return dataset  # what an objective makes of them is for training
    return task.preprocess_postcache(dataset, sequence_length=None, seed=0)


def _record(task: seqio.Task, rows: Sequence[Mapping[str, Any]], lengths: Lengths) -> RankedRecord:
    number = int(rows[0]["idx"][0])
    where = f"task {task.name}, example {number}"
    vocabulary = task.output_features["targets"].vocabulary
    choices: list[np.ndarray] = []
    texts = []
    for row in rows:
        tokens, text = row["targets"], _text(vocabulary, row, "targets")
        if not np.any(tokens != vocabulary.eos_id):
            raise UserError(
                f"{where}: choice {len(choices)}, {text!r}, tokenises to nothing, so it has no "
                "likelihood; expected choices with text."
            )
        choices.append(cut(tokens, lengths["targets"]))
        texts.append(text)
    gold = tuple(index for index, row in enumerate(rows) if row["is_correct"])
    if not gold:
        raise UserError(f"{where}: none of its {len(rows)} choices is right.")
    inputs = rows[0]["inputs"]
    return RankedRecord(
        id=str(number),
        question=Question(cut(inputs, lengths["inputs"]), tuple(choices)),
        inputs=_text(vocabulary, rows[0], "inputs"),
        choices=tuple(texts),
        gold=gold,
        weight=float(rows[0].get("weight", 1.0)),
        truncated=len(inputs) > lengths["inputs"]
        or any(len(row["targets"]) > lengths["targets"] for row in rows),
    )


def _text(vocabulary: seqio.Vocabulary, row: Mapping[str, Any], feature: str) -> str:
    if f"{feature}_pretokenized" in row:
        return row[f"{feature}_pretokenized"].decode()
    return vocabulary.decode(row[feature].tolist())

"""What was found about each example of an evaluated task, and what it adds to the metrics."""

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from archobj_jax.errors import UserError
from archobj_jax.evaluation.statistics import Terms

Kind = Literal["rank", "metrics", "loss"]

ACCURACIES = ("accuracy", "accuracy_norm", "accuracy_unconditional")
"""Of ranked choices, in percent: by log likelihood, by log likelihood / bytes, and by log
likelihood - unconditional log likelihood."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Example(ABC):
    """One example; `id` is the same for every checkpoint and for every prompt of a data set.

    Attributes:
      id: e.g. the number of the record.
      truncated: whether its inputs were cut.
    """

    kind: ClassVar[Kind]

    id: str
    truncated: bool = False

    @abstractmethod
    def terms(self) -> Mapping[str, tuple[float, float]]:
        """What it adds to numerator and denominator of each metric."""

    @abstractmethod
    def data(self) -> Mapping[str, Any]:
        """What must be the same wherever this example is evaluated."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """An answer choice.

    Attributes:
      log_likelihood: of its tokens, given the inputs, summed; in nats.
      tokens, bytes: length of its tokens and of its text in UTF-8.
      is_greedy: whether greedy decoding would produce it.
      unconditional: its log likelihood after empty inputs; None if not evaluated.
      text: of the choice; None if unknown.
    """

    log_likelihood: float
    tokens: int
    bytes: int
    is_greedy: bool
    unconditional: float | None = None
    text: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RankedExample(Example):
    """An example whose answer is the choice with the highest score; of equal ones, the first.

    `accuracy_norm` divides by bytes, which do not depend on the tokenizer (lm-eval's acc_bytes;
    its acc_norm divides by characters). `accuracy_unconditional` is lm-eval's acc_mutual_info.

    Attributes:
      gold: indices of the right choices; any will do.
      weight: of the example in the accuracies.
      inputs: the text before the choices, uncut; None if unknown.
      predictions: index of the choice taken, by the name of the accuracy.

    Raises:
      UserError: a log likelihood is not finite.
      ValueError: no choice, one of no bytes, a gold index that is none, a negative weight, or an
        unconditional log likelihood for some choices only.
    """

    kind: ClassVar[Kind] = "rank"

    choices: tuple[Choice, ...]
    gold: tuple[int, ...]
    weight: float = 1.0
    inputs: str | None = None
    predictions: Mapping[str, int] = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        scores = [choice.log_likelihood for choice in self.choices]
        norms = [
            choice.unconditional for choice in self.choices if choice.unconditional is not None
        ]
        for value in scores + norms:
            if not math.isfinite(value):
                raise UserError(
                    f"example {self.id}: a choice has the log likelihood {value}, expected a "
                    "finite number; the checkpoint's parameters may not be finite."
                )
        if not scores or min(choice.bytes for choice in self.choices) < 1:
            raise ValueError(f"example {self.id}: expected choices of at least one byte")
        if not self.gold or not all(0 <= index < len(scores) for index in self.gold):
            raise ValueError(f"example {self.id}: gold {self.gold} of {len(scores)} choices")
        if len(norms) not in (0, len(scores)) or not self.weight >= 0:
            raise ValueError(
                f"example {self.id}: {len(norms)} unconditional log likelihoods of {len(scores)} "
                f"choices, weight {self.weight}"
            )
        by_bytes = [choice.log_likelihood / choice.bytes for choice in self.choices]
        gains = [score - norm for score, norm in zip(scores, norms, strict=False)]
        ranked = zip(ACCURACIES, (scores, by_bytes, gains), strict=True)
        taken = {name: values.index(max(values)) for name, values in ranked if values}
        object.__setattr__(self, "predictions", taken)

    def terms(self) -> Mapping[str, tuple[float, float]]:
        """Weight of the right ones, in percent, over weight."""
        return {
            name: (100.0 * self.weight * (taken in self.gold), self.weight)
            for name, taken in self.predictions.items()
        }

    def data(self) -> Mapping[str, Any]:
        """Gold, and how long the choices are."""
        return {"gold": self.gold, "bytes of choices": tuple(c.bytes for c in self.choices)}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ScoredExample(Example):
    """An example with metrics of its own: exact match of generated text, those of the harness.

    Attributes:
      metrics: value by name, in the metric's own unit; the task's metric is their mean.
      output: what the model wrote; None if it did not write.
      references: what it might have written; empty if unknown.

    Raises:
      UserError: a value is not finite.
    """

    kind: ClassVar[Kind] = "metrics"

    metrics: Mapping[str, float]
    output: str | None = None
    references: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, value in self.metrics.items():
            if not math.isfinite(value):
                raise UserError(
                    f"example {self.id}: the metric '{name}' is {value}, expected a finite number."
                )

    def terms(self) -> Mapping[str, tuple[float, float]]:
        """Each value, over 1."""
        return {name: (value, 1.0) for name, value in self.metrics.items()}

    def data(self) -> Mapping[str, Any]:
        """The references."""
        return {"references": self.references}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Document(Example):
    """A document whose every token is predicted.

    Attributes:
      nats: its negative log likelihood.
      tokens, bytes: its length, in tokens that were predicted and in bytes of UTF-8.

    Raises:
      UserError: `nats` is not finite.
      ValueError: it has no tokens or no bytes.
    """

    kind: ClassVar[Kind] = "loss"

    nats: float
    tokens: int
    bytes: int

    def __post_init__(self) -> None:
        if not math.isfinite(self.nats):
            raise UserError(
                f"document {self.id} has the loss {self.nats}, expected a finite number; the "
                "checkpoint's parameters may not be finite."
            )
        if self.tokens < 1 or self.bytes < 1:
            raise ValueError(f"document {self.id} has {self.tokens} tokens, {self.bytes} bytes")

    def terms(self) -> Mapping[str, tuple[float, float]]:
        """Loss: nats over tokens; bits per byte: bits over bytes."""
        bits = self.nats / math.log(2)
        return {"loss": (self.nats, self.tokens), "bits_per_byte": (bits, self.bytes)}

    def data(self) -> Mapping[str, Any]:
        """The length in bytes; that in tokens is the tokenizer's."""
        return {"bytes": self.bytes}


def stacked(prompts: Sequence[Sequence[Example]]) -> dict[str, Terms]:
    """Terms of each metric that all examples have, by prompt and by example.

    Args:
      prompts: the examples under each of P prompts, paired by their ids; n ids in all.

    Returns:
      Float64 [P, n] numerators and denominators, 0 where a prompt lacks an example; examples are in
      the order in which their ids are met first.

    Raises:
      ValueError: under one prompt two examples have the same id, or different metrics.
    """
    found = [[example.terms() for example in examples] for examples in prompts]
    ids = dict.fromkeys(example.id for examples in prompts for example in examples)
    column = {id: index for index, id in enumerate(ids)}
    columns = [[column[example.id] for example in examples] for examples in prompts]
    for examples, terms, places in zip(prompts, found, columns, strict=True):
        if len(set(places)) < len(places):
            raise ValueError("two examples have the same id")
        for example, of_example in zip(examples, terms, strict=True):
            if of_example.keys() != terms[0].keys():
                raise ValueError(
                    f"example {example.id} has the metrics {sorted(of_example)}, "
                    f"{examples[0].id} has {sorted(terms[0])}"
                )
    names = [name for name in found[0][0] if all(name in terms[0] for terms in found)]
    both = np.zeros((len(names), 2, len(prompts), len(ids)))
    for index, name in enumerate(names):
        for prompt, (terms, places) in enumerate(zip(found, columns, strict=True)):
            both[index, :, prompt, places] = [of_example[name] for of_example in terms]
    return {name: Terms(*both[index]) for index, name in enumerate(names)}

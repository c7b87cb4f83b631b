"""Log likelihoods of choices that share their inputs.

The inputs are read once, into the cache that decoding has too (with an encoder, they are encoded
once). All choices then lie one after another behind them as branches: each sees the inputs and
itself. Of a choice with T tokens the inputs predict the first, so it adds T - 1 tokens to read.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from archobj_jax.architectures import language_model
from archobj_jax.architectures.masks import Places
from archobj_jax.errors import UserError
from archobj_jax.inference.batching import Batch, Shape, batches, bucket
from archobj_jax.inference.placing import place, replicated, row_shards
from archobj_jax.inference.questions import Question, Score
from archobj_jax.objectives import Lengths
from archobj_jax.partitioning.rules import activated
from archobj_jax.training.state import Blueprint

Scored = TypeVar("Scored")

Part = tuple[int, range]
"""A question, and those of its choices that are scored in one row."""


@dataclasses.dataclass(frozen=True)
class Scoring:
    """A list of questions, laid out in batches.

    Attributes:
      blueprint: of the model.
      questions: to be scored.
      parts: the rows: a question with too many choices for one takes several.
      batches: of parts.
    """

    blueprint: Blueprint
    questions: Sequence[Question]
    parts: tuple[Part, ...]
    batches: tuple[Batch, ...]

    @classmethod
    def of(
        cls, blueprint: Blueprint, questions: Sequence[Question], *, batch_tokens: int
    ) -> "Scoring":
        """Lays out `questions` in batches of about `batch_tokens` tokens on each shard of rows."""
        parts = tuple(
            part
            for index, question in enumerate(questions)
            for part in _parts(index, question, batch_tokens)
        )
        shards = row_shards(blueprint.rules)
        made = batches(
            [_shape(questions[index], choices) for index, choices in parts],
            tokens=lambda shape: shape[0] + shape[1],
            budget=batch_tokens * shards,
            multiple=shards,
        )
        return cls(blueprint, questions, parts, tuple(made))

    def score(self, params: Mapping, batch: Batch) -> list[list[Score]]:
        """The scores of the choices of each part of a batch.

        Raises:
          UserError: one is not finite.
        """
        parts = [self.parts[item] for item in batch.items]
        rows = [
            (self.questions[index].inputs, [self.questions[index].choices[c] for c in choices])
            for index, choices in parts
        ]
        prompt, branches = self._arrays(rows, batch)
        arrays = place(self.blueprint.rules, prompt | branches)
        made = log_likelihoods(self.blueprint, params, arrays)
        first, first_greedy, rest, rest_greedy = (np.asarray(array) for array in made)
        for likely in (first, rest):
            if not np.isfinite(likely[: len(rows)]).all():
                raise UserError(
                    "the model's log likelihoods are not all finite; its parameters may not be "
                    "finite, or token ids may be beyond its vocabulary."
                )
        return [
            list(_scores(choices, first[r], first_greedy[r], rest[r], rest_greedy[r]))
            for r, (_, choices) in enumerate(rows)
        ]

    def collect(self, results: Sequence[Sequence[list[Scored]]]) -> list[list[Scored]]:
        """The scores of each question, or what was made of them, from those of each batch."""
        scores: list[list[Scored]] = [[] for _ in self.questions]
        found = {
            item: made
            for batch, result in zip(self.batches, results, strict=True)
            for item, made in zip(batch.items, result, strict=True)
        }
        for item, (index, _) in enumerate(self.parts):
            scores[index] += found[item]
        return scores

    def _arrays(
        self, rows: list[tuple[np.ndarray, list[np.ndarray]]], batch: Batch
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """The prompts as the model reads them, and the branches, see `_branches`."""
        length, tokens, choices = batch.shape
        layout = self.blueprint.architecture.layout
        # Room for one target: its position reads the last input and predicts every first token.
        lengths: Lengths = {"inputs": length - 1, "targets": 1}
        one = np.ones(1, np.int32)
        made = [layout.row([{"inputs": inputs, "targets": one}], lengths) for inputs, _ in rows]
        made += [made[0]] * (batch.rows - len(made))
        prompt = {name: np.stack([row[name] for row in made]) for name in made[0]}
        starts = (prompt["decoder_segment_ids"] > 0).sum(axis=1)
        branches = [
            _branches(row, int(start), tokens, choices)
            for (_, row), start in zip(rows, starts, strict=False)
        ]
        branches += [branches[0]] * (batch.rows - len(branches))
        return prompt, {name: np.stack([b[name] for b in branches]) for name in branches[0]}


def _parts(index: int, question: Question, most: int) -> Iterator[Part]:
    """Splits a question's choices so that inputs and choices of a row have about `most` tokens."""
    start, size = 0, question.inputs.size
    for number, choice in enumerate(question.choices):
        size += choice.size
        if size > most and number > start:
            yield index, range(start, number)
            start, size = number, question.inputs.size + choice.size
    yield index, range(start, len(question.choices))


def _shape(question: Question, choices: range) -> Shape:
    """Tokens of inputs and start, tokens of branches, and choices."""
    tokens = sum(question.choices[c].size - 1 for c in choices)
    return bucket(question.inputs.size + 1), bucket(tokens), bucket(len(choices))


def _branches(
    choices: Sequence[np.ndarray], start: int, tokens: int, count: int
) -> dict[str, np.ndarray]:
    """Choices behind a prompt of `start` tokens: `7 8 9` and `5` and `6 4` are, for 4 tokens::

    branch_first    7 5 6
    branch_tokens   7 8 6 0      branch_targets   8 9 4 0
    branch_ids      1 1 3 0      branch_offsets   start + 0 1 0, 0
    """
    names = ("branch_tokens", "branch_targets", "branch_ids", "branch_offsets")
    made = {name: np.zeros(tokens, np.int32) for name in names}
    made["branch_first"] = np.zeros(count, np.int32)
    at = 0
    for number, choice in enumerate(choices):
        made["branch_first"][number] = choice[0]
        here = slice(at, at + choice.size - 1)
        made["branch_tokens"][here] = choice[:-1]
        made["branch_targets"][here] = choice[1:]
        made["branch_ids"][here] = number + 1
        made["branch_offsets"][here] = start + np.arange(choice.size - 1)
        at += choice.size - 1
    return made


def _scores(
    choices: Sequence[np.ndarray],
    first: np.ndarray,
    first_greedy: np.ndarray,
    rest: np.ndarray,
    rest_greedy: np.ndarray,
) -> Iterator[Score]:
    at = 0
    for number, choice in enumerate(choices):
        here = slice(at, at + choice.size - 1)
        yield Score(
            np.concatenate([first[number : number + 1], rest[here]]),
            bool(first_greedy[number] and rest_greedy[here].all()),
        )
        at += choice.size - 1


@functools.partial(jax.jit, static_argnums=0)
def log_likelihoods(
    blueprint: Blueprint, params: Mapping, arrays: language_model.Batch
) -> tuple[jax.Array, ...]:
    """Log likelihood and greediness of first tokens [B, C] and of the tokens of branches [B, L]."""
    with activated(blueprint.rules):
        model = blueprint.bind(params)
        tokens, first = arrays["branch_tokens"], arrays["branch_first"]
        length = arrays["decoder_input_tokens"].shape[1]
        logits, state = model.start(arrays, length + tokens.shape[1])
        likely = jnp.take_along_axis(logits, first, axis=-1)
        likely -= jax.nn.logsumexp(logits, axis=-1, keepdims=True)
        made = (likely, jnp.argmax(logits, axis=-1)[:, None] == first)
        if not tokens.shape[1]:
            return replicated(blueprint.rules, (*made, *_nothing(tokens)))
        ids = arrays["branch_ids"]
        query = Places(
            segment=(ids > 0).astype(jnp.int32),
            offset=arrays["branch_offsets"],
            prefix=jnp.zeros(ids.shape, bool),
            branch=ids,
        )
        logits, _ = model.extend(tokens, query, state)
        return replicated(blueprint.rules, (*made, *_chosen(logits, arrays["branch_targets"])))


def _chosen(logits: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    likely = chosen - jax.nn.logsumexp(logits, axis=-1)
    return likely, jnp.argmax(logits, axis=-1) == targets


def _nothing(tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jnp.zeros(tokens.shape, jnp.float32), jnp.ones(tokens.shape, bool)

"""A trained model for use: scores targets after inputs, and generates."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import seqio

from archobj_jax.architectures.language_model import Batch
from archobj_jax.data import registry, vocabularies
from archobj_jax.evaluation.sampling import Sampling
from archobj_jax.objectives import Example
from archobj_jax.partitioning.partitioner import Partitioner
from archobj_jax.training import lineage, restoring
from archobj_jax.training.state import Blueprint

_BUCKET = 32
"""Lengths are rounded up to multiples of this, so that few shapes are compiled."""


@dataclasses.dataclass(frozen=True)
class Score:
    """How likely a model finds targets.

    Attributes:
      log_likelihoods: of each target token given the inputs and the targets before it, in nats.
      is_greedy: whether greedy decoding would produce the targets.
    """

    log_likelihoods: np.ndarray
    is_greedy: bool

    @property
    def total(self) -> float:
        """Log-likelihood of the targets, in nats."""
        return float(self.log_likelihoods.sum())


@dataclasses.dataclass(frozen=True)
class Predictor:
    """A model with its parameters, its vocabulary and what is known of it."""

    blueprint: Blueprint
    params: Mapping
    vocabulary: seqio.Vocabulary
    step: int

    @classmethod
    def from_checkpoint(cls, path: str, *, cache_dir: str | None = None) -> "Predictor":
        """Reads the parameters (alone) of a checkpoint onto this process's first device.

        Args:
          path: of a run (its newest checkpoint) or of a checkpoint.
          cache_dir: where the vocabulary lies if it is one that is made there; None is where the
            run had it.

        Raises:
          UserError: there is no checkpoint, or its model or task is unknown here.
          MachineError: it is damaged.
        """
        found = restoring.find_checkpoint(path)
        record = restoring.read_about(found)["model"]
        architecture = lineage.recorded_model(record, where=str(found))
        partitioner = Partitioner()
        rules = partitioner.logical_axis_rules(partitioner.mesh(jax.local_devices()[:1]))
        blueprint = Blueprint.of(architecture, rules)
        wanted = {
            "step": jax.ShapeDtypeStruct((), jnp.int32, sharding=rules.sharding((), ())),
            "params": blueprint.abstract_params(),
        }
        restored = restoring.restore(found, wanted)
        task = registry.find(record["mixture_or_task_name"], record["mixture_or_task_module"])
        vocabulary = registry.vocabulary(seqio.get_subtasks(task)[0])
        vocabularies.load(vocabulary, cache_dir or record["cache_dir"])
        return cls(blueprint, restored.state["params"], vocabulary, int(restored.state["step"]))

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[Score]:
        """Scores targets after inputs, for (inputs, targets) texts.

        Each text is tokenised on its own; no end of sequence is added.

        Raises:
          ValueError: targets tokenise to nothing.
        """
        examples = [
            {"inputs": self._encode(inputs), "targets": self._encode(targets)}
            for inputs, targets in pairs
        ]
        for (_, targets), example in zip(pairs, examples, strict=True):
            if not example["targets"].size:
                raise ValueError(f"the targets {targets!r} tokenise to nothing")
        return self.score_tokens(examples)

    def score_tokens(self, examples: Sequence[Example]) -> list[Score]:
        """Scores examples of 'inputs' and 'targets', int32 token ids."""
        batch = self._batch(examples)
        likely, greedy = _log_likelihoods(self.blueprint, self.params, batch)
        likely, greedy = np.asarray(likely), np.asarray(greedy)
        weights = np.asarray(batch["decoder_loss_weights"]) > 0
        return [
            Score(likely[row, weights[row]], bool(greedy[row, weights[row]].all()))
            for row in range(len(examples))
        ]

    def generate(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int = 64,
        sampling: Sampling = Sampling(),
        seed: int = 0,
    ) -> list[str]:
        """Continues each prompt until the end of sequence or `max_new_tokens`.

        Token i of row r is drawn with a key of (seed, i, r).
        """
        tokens = self.generate_tokens(
            [self._encode(prompt) for prompt in prompts],
            max_new_tokens=max_new_tokens,
            sampling=sampling,
            seed=seed,
        )
        return [self.vocabulary.decode(row.tolist()) for row in tokens]

    def generate_tokens(
        self,
        prompts: Sequence[np.ndarray],
        *,
        max_new_tokens: int,
        sampling: Sampling = Sampling(),
        seed: int = 0,
    ) -> list[np.ndarray]:
        """`generate` on int32 token ids; the end of sequence is left out."""
        eos_id = self.vocabulary.eos_id
        # The first target position predicts the first new token; what stands there is not read.
        placeholder = np.array([eos_id], np.int32)
        batch = self._batch([{"inputs": p, "targets": placeholder} for p in prompts])
        capacity = batch["decoder_input_tokens"].shape[1] + _rounded(max_new_tokens)
        tokens = _generate(
            self.blueprint, sampling, max_new_tokens, capacity, self.params, batch,
            jax.random.key(seed), eos_id,
        )  # fmt: skip
        return [_until(row, eos_id) for row in np.asarray(tokens)]

    def _encode(self, text: str) -> np.ndarray:
        return np.asarray(self.vocabulary.encode(text), np.int32)

    def _batch(self, examples: Sequence[Example]) -> Batch:
        lengths = {
            feature: _rounded(max(max(len(e[feature]) for e in examples), 1))
            for feature in ("inputs", "targets")
        }
        layout = self.blueprint.architecture.layout
        rows = [layout.row([example], lengths) for example in examples]
        return {name: jnp.asarray(np.stack([row[name] for row in rows])) for name in rows[0]}


def _until(tokens: np.ndarray, eos_id: int) -> np.ndarray:
    ends = np.flatnonzero(tokens == eos_id)
    return tokens[: ends[0]] if ends.size else tokens


def _rounded(length: int) -> int:
    return -(-length // _BUCKET) * _BUCKET


@functools.partial(jax.jit, static_argnums=0)
def _log_likelihoods(
    blueprint: Blueprint, params: Mapping, batch: Batch
) -> tuple[jax.Array, jax.Array]:
    logits = blueprint.bind(params)(batch)
    targets = batch["decoder_target_tokens"]
    likely = jax.nn.log_softmax(logits, axis=-1)
    chosen = jnp.take_along_axis(likely, targets[..., None], axis=-1)[..., 0]
    return chosen, jnp.argmax(logits, axis=-1) == targets


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _generate(
    blueprint: Blueprint,
    sampling: Sampling,
    count: int,
    capacity: int,
    params: Mapping,
    batch: Batch,
    key: jax.Array,
    eos_id: int,
) -> jax.Array:
    """New tokens int32 [B, count]; after the end of sequence they are ends of sequence."""
    logits, state = blueprint.bind(params).start(batch, capacity)
    rows = logits.shape[0]
    tokens = jnp.full((rows, count), eos_id, jnp.int32)

    def unfinished(carry: tuple) -> jax.Array:
        index, _, _, _, ended = carry
        return (index < count) & ~jnp.all(ended)

    def one(carry: tuple) -> tuple:
        index, logits, state, tokens, ended = carry
        token = sampling(logits, jax.random.fold_in(key, index))
        token = jnp.where(ended, eos_id, token)
        tokens = tokens.at[:, index].set(token)
        # Bound anew: NNX modules do not cross into the trace of a loop's body.
        logits, state = blueprint.bind(params).advance(token, state)
        return index + 1, logits, state, tokens, ended | (token == eos_id)

    start = (jnp.zeros((), jnp.int32), logits, state, tokens, jnp.zeros((rows,), bool))
    return jax.lax.while_loop(unfinished, one, start)[3]

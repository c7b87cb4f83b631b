"""A trained model for use: scores targets after inputs, and generates."""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from archobj_jax.inference import decoding
from archobj_jax.inference.decoding import Generated, Generation, OnText
from archobj_jax.inference.questions import Question, Score
from archobj_jax.inference.scoring import Scoring
from archobj_jax.inference.vocabulary import Vocabulary, recorded_vocabulary
from archobj_jax.partitioning.partitioner import Partitioner
from archobj_jax.training import lineage, restoring
from archobj_jax.training.state import Blueprint
from archobj_jax.training.unsharded import check_sharded

BATCH_TOKENS = 8192
"""Tokens that a device reads at a time, unless told otherwise."""


@dataclasses.dataclass(frozen=True)
class Predictor:
    """A model with its parameters, its vocabulary and what is known of it."""

    blueprint: Blueprint
    params: Mapping
    vocabulary: Vocabulary
    step: int

    @classmethod
    def from_checkpoint(
        cls,
        path: str,
        *,
        cache_dir: str | None = None,
        partitioner: Partitioner | None = None,
    ) -> "Predictor":
        """Reads the parameters (alone) of a checkpoint, whatever mesh it was trained on.

        Args:
          path: of a run (its newest checkpoint) or of a checkpoint.
          cache_dir: where the vocabulary lies if it is one that is made there; None is where the
            run had it.
          partitioner: lays them on all devices of all processes; None is this process's first
            device alone.

        Raises:
          UserError: there is no checkpoint, its model or task is unknown here, its vocabulary is
            another one here, or a large parameter is not sharded.
          MachineError: it is damaged.
        """
        found = restoring.find_checkpoint(path)
        about = restoring.read_about(found)
        architecture = lineage.recorded_model(about["model"], where=str(found))
        if partitioner is None:
            partitioner = Partitioner()
            mesh = partitioner.mesh(jax.local_devices()[:1])
        else:
            mesh = partitioner.mesh()
        rules = partitioner.logical_axis_rules(mesh)
        blueprint = Blueprint.of(architecture, rules)
        wanted = {
            "step": jax.ShapeDtypeStruct((), jnp.int32, sharding=rules.sharding((), ())),
            "params": blueprint.abstract_params(),
        }
        check_sharded(blueprint, wanted)
        restored = restoring.restore(found, wanted)
        vocabulary = recorded_vocabulary(
            about, cache_dir=cache_dir, where=f"CHECKPOINT_PATH: {found}"
        )
        return cls(blueprint, restored.state["params"], vocabulary, int(restored.state["step"]))

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[Score]:
        """Scores targets after inputs, for (inputs, targets) texts.

        Each text is tokenised on its own; no end of sequence is added.

        Raises:
          ValueError: targets tokenise to nothing.
        """
        questions = []
        for inputs, targets in pairs:
            tokens = self._encode(targets)
            if not tokens.size:
                raise ValueError(f"the targets {targets!r} tokenise to nothing")
            questions.append(Question(self._encode(inputs), (tokens,)))
        return [scores[0] for scores in self.score_questions(questions)]

    def score_questions(
        self, questions: Sequence[Question], *, batch_tokens: int = BATCH_TOKENS
    ) -> list[list[Score]]:
        """Scores the choices of each question; its inputs are read once. Nothing is added to them.

        Args:
          questions: to be scored, in the order of the results.
          batch_tokens: about how many tokens a device reads at a time.
        """
        scoring = Scoring.of(self.blueprint, questions, batch_tokens=batch_tokens)
        made = [scoring.score(self.params, batch) for batch in scoring.batches]
        return scoring.collect(made)

    def generate(
        self,
        prompts: Sequence[str],
        config: Generation = Generation(),
        *,
        numbers: Sequence[int] | None = None,
        on_text: OnText | None = None,
    ) -> list[list[Generated]]:
        """Writes after each prompt, tokenised without an end of sequence; see `generate_tokens`."""
        tokens = [self._encode(prompt) for prompt in prompts]
        return self.generate_tokens(tokens, config, numbers=numbers, on_text=on_text)

    def generate_tokens(
        self,
        prompts: Sequence[np.ndarray],
        config: Generation,
        *,
        batch_tokens: int = BATCH_TOKENS,
        limits: Sequence[int] | None = None,
        numbers: Sequence[int] | None = None,
        on_text: OnText | None = None,
    ) -> list[list[Generated]]:
        """Writes after each prompt, int32 token ids; see `decoding.generate`."""
        return decoding.generate(
            self.blueprint,
            self.params,
            self.vocabulary,
            prompts,
            config,
            batch_tokens=batch_tokens,
            limits=limits,
            numbers=numbers,
            on_text=on_text,
        )

    def _encode(self, text: str) -> np.ndarray:
        return np.asarray(self.vocabulary.encode(text), np.int32)

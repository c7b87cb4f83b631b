"""A predictor at work on long lists: in batches, with progress, and going on after a kill."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from archobj_jax.data.progress import Progress
from archobj_jax.inference.batching import Batch, batches, bucket
from archobj_jax.inference.decoding import Generated, Generation
from archobj_jax.inference.journal import Journal, fingerprint
from archobj_jax.inference.placing import row_shards
from archobj_jax.inference.predictor import BATCH_TOKENS, Predictor
from archobj_jax.inference.questions import Question, Total
from archobj_jax.inference.scoring import Scoring


@dataclasses.dataclass(frozen=True)
class Runner:
    """Scores and generates with one model.

    Every process of a run calls it with the same arguments, and gets the same results.

    Attributes:
      predictor: the model.
      journal: where results are kept; None keeps none.
      batch_tokens: about how many tokens a device reads at a time.
      identity: of the checkpoint and of all else that results depend on beside the work.
      quiet: whether no progress is shown.
    """

    predictor: Predictor
    journal: Journal | None = None
    batch_tokens: int = BATCH_TOKENS
    identity: str = ""
    quiet: bool = False

    def score(self, name: str, questions: Sequence[Question]) -> list[list[Total]]:
        """The log likelihood of each choice of each question; see `Predictor.score_questions`.

        Args:
          name: of this work in the journal and in the progress shown.
          questions: to be scored.
        """
        scoring = Scoring.of(self.predictor.blueprint, questions, batch_tokens=self.batch_tokens)

        def work(number: int) -> list:
            made = scoring.score(self.predictor.params, scoring.batches[number])
            return [[[s.total, s.is_greedy] for s in scores] for scores in made]

        depends_on = self._fingerprint("score", questions=questions)
        results = self._complete(name, "rows", scoring.batches, work, depends_on)
        return scoring.collect([[[Total(*s) for s in part] for part in made] for made in results])

    def generate(
        self, name: str, prompts: Sequence[np.ndarray], config: Generation
    ) -> list[list[Generated]]:
        """What the model writes after each prompt; see `decoding.generate`."""
        rows = config.strategy.rows(config.num_samples)
        shards = row_shards(self.predictor.blueprint.rules)
        groups = batches(
            [(bucket(prompt.size + 1),) for prompt in prompts],
            tokens=lambda shape: rows * (shape[0] + config.max_new_tokens),
            budget=self.batch_tokens * shards,
            multiple=shards,
        )

        def work(number: int) -> list:
            items = groups[number].items
            made = self.predictor.generate_tokens(
                [prompts[index] for index in items],
                config,
                batch_tokens=self.batch_tokens,
                numbers=items,
            )
            return [[dataclasses.asdict(each) for each in samples] for samples in made]

        depends_on = self._fingerprint("generate", prompts=list(prompts), config=config)
        results = self._complete(name, "prompts", groups, work, depends_on)
        made: dict[int, list[Generated]] = {}
        for group, result in zip(groups, results, strict=True):
            for index, samples in zip(group.items, result, strict=True):
                made[index] = [Generated(**each) for each in samples]
        return [made[index] for index in range(len(prompts))]

    def _complete(
        self,
        name: str,
        unit: str,
        parts: Sequence[Batch],
        work: Callable[[int], list],
        depends_on: str,
    ) -> list[list]:
        counts = [len(part.items) for part in parts]
        quiet = self.quiet or jax.process_index() > 0
        if self.journal is None:
            with Progress(name, sum(counts), unit=unit, quiet=quiet) as progress:
                results = []
                for number, count in enumerate(counts):
                    results.append(work(number))
                    progress.finish(count)
            return results
        before = self.journal.count(name, depends_on, len(parts))
        with Progress(name, sum(counts), sum(counts[:before]), unit=unit, quiet=quiet) as progress:

            def counted(number: int) -> list:
                result = work(number)
                progress.finish(counts[number])
                return result

            return self.journal.complete(name, depends_on, len(parts), counted)

    def _fingerprint(self, kind: str, **depends_on: Any) -> str:
        return fingerprint(
            kind=kind, identity=self.identity, batch_tokens=self.batch_tokens, **depends_on
        )

"""What the stages of a study left behind, by chain."""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Mapping

from archobj_jax.evaluation import results
from archobj_jax.evaluation.results import EvaluationResults
from archobj_jax.study.design import Evaluation, Study
from archobj_jax.study.graph import Graph, Legs, Stage
from archobj_jax.study.store import Store

Curve = list[tuple[float, float]]
"""Tokens of a stage, and held-out loss."""


@dataclasses.dataclass(frozen=True)
class Chain:
    """Training stages that differ by their seed only.

    Attributes:
      name: in the paper's notation, with the size if the study has several; with the tokens or
        steps of each leg where another chain would have the same name.
      stages: those that are done, by seed.
    """

    name: str
    stages: Mapping[int, Stage]

    @property
    def any(self) -> Stage:
        """One of the stages, for what they have in common."""
        return next(iter(self.stages.values()))

    @property
    def kind(self) -> str:
        """Of its last stage: pretrain, adapt or finetune."""
        return self.any.kind

    @property
    def pairs(self) -> str:
        """Without budgets."""
        return self.any.pairs


@dataclasses.dataclass(frozen=True)
class Evidence:
    """A study and what of it is done.

    Attributes:
      study, graph, store: the study, its stages, where they lie.
    """

    study: Study
    graph: Graph
    store: Store

    @functools.cached_property
    def chains(self) -> tuple[Chain, ...]:
        """Chains with a stage that is done, in the study's order."""
        found: dict[tuple[Legs, str], dict[int, Stage]] = {}
        for stage in self.graph:
            if stage.evaluation is None and self.store.is_done(stage):
                found.setdefault((stage.legs, stage.size), {})[stage.seed] = stage
        return tuple(Chain(self._names[key], stages) for key, stages in found.items())

    @functools.cached_property
    def _names(self) -> Mapping[tuple[Legs, str], str]:
        """By legs and size, the shortest of three notations that no other chain has."""
        training = [stage for stage in self.graph if stage.evaluation is None]
        one_of_each = {(stage.legs, stage.size): stage for stage in training}.values()
        several = len(self.study.sizes) > 1
        names = {}
        for notation in ("notation_of_steps", "notation_of_legs", "notation"):
            told = [
                f"{stage.size} {getattr(stage, notation)}" if several else getattr(stage, notation)
                for stage in one_of_each
            ]
            for stage, name in zip(one_of_each, told, strict=True):
                if told.count(name) == 1:
                    names[stage.legs, stage.size] = name
        return names

    def name(self, stage: Stage) -> str:
        """What the report calls the chain that ends in a training stage."""
        return self._names[stage.legs, stage.size]

    def of_kind(self, kind: str) -> tuple[Chain, ...]:
        """The chains that end in a stage of this kind."""
        return tuple(chain for chain in self.chains if chain.kind == kind)

    def evaluated(self, chain: Chain, evaluation: Evaluation) -> dict[int, EvaluationResults]:
        """The results of an evaluation, by seed."""
        return {
            seed: _read(str(path))
            for seed, stage in chain.stages.items()
            for child in self.graph
            if child.evaluation == evaluation.name and child.parent == stage.fingerprint
            if self.store.is_done(child)
            if (path := self.store.results(child)) is not None
        }

    def curve(self, stage: Stage) -> Curve:
        """Held-out losses of a stage, the mean over its tasks, by tokens of the stage."""
        share = stage.tokens / (stage.total_steps - stage.start_step)
        return [
            ((step - stage.start_step) * share, sum(losses) / len(losses))
            for step, losses in self._held_out(stage)
        ]

    def last_loss(self, stage: Stage) -> float | None:
        """The held-out loss after a stage's last step; None if it was not evaluated or not finite.

        A curve may end before it, where a process was killed between saving and evaluating.
        """
        losses = dict(self._held_out(stage)).get(stage.total_steps)
        return None if losses is None else sum(losses) / len(losses)

    def curve_of_pair(self, stage: Stage) -> Curve:
        """The same of a stage and those before it of its pair, as one: from scratch, or adapted."""
        legs = list(
            itertools.takewhile(
                lambda each: each.legs[-1][0] == stage.legs[-1][0],
                (stage, *reversed(self.graph.ancestors(stage))),
            )
        )
        before = 0.0
        points: Curve = []
        for each in reversed(legs):
            points += [(before + tokens, loss) for tokens, loss in self.curve(each)]
            before += each.tokens
        return points

    def _held_out(self, stage: Stage) -> Iterator[tuple[int, list[float]]]:
        for record in self.store.records(stage):
            losses = [
                value
                for name, value in record.items()
                if name.startswith("eval/") and name.endswith("/loss")
            ]
            if losses and None not in losses:
                yield record["step"], losses


@functools.lru_cache(maxsize=256)
def _read(path: str) -> EvaluationResults:
    return results.read(path)

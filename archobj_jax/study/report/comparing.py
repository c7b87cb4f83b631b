"""All chains under one evaluation, and how far each is behind the best."""

import dataclasses
from collections.abc import Mapping, Sequence

from archobj_jax.study.design import Evaluation
from archobj_jax.study.report import scores
from archobj_jax.study.report.evidence import Chain, Evidence
from archobj_jax.study.report.scores import Difference, Score, difference


@dataclasses.dataclass(frozen=True)
class Scored:
    """A chain under one evaluation.

    Attributes:
      chain: the chain.
      average: over data sets.
      groups: by data set.
      prompts: accuracy by data set and prompt.
    """

    chain: Chain
    average: Score
    groups: Mapping[str, Score]
    prompts: Mapping[str, Mapping[str, float]]


@dataclasses.dataclass(frozen=True)
class Ranking:
    """Chains of one kind under one evaluation, in the study's order.

    Attributes:
      evaluation: which.
      kind: of the chains' last stage.
      among: the budgets that its chains have in common, "" if the study has no others.
      scored: the chains that have results.
    """

    evaluation: Evaluation
    kind: str
    among: str
    scored: Sequence[Scored]

    @property
    def title(self) -> str:
        """The evaluation and the budgets."""
        return self.evaluation.name + (f" ({self.among})" if self.among else "")

    @property
    def matched(self) -> bool:
        """Whether all chains were pretrained on as many tokens, adaptation included."""
        tokens = [each.chain.any.pretraining_tokens for each in self.scored]
        return max(tokens) - min(tokens) <= 0.01 * max(tokens)

    @property
    def best(self) -> Scored:
        """The one with the highest average; of equal ones the first."""
        return max(self.scored, key=lambda each: each.average.value)

    def behind_best(self, other: Scored) -> Difference | None:
        """How far another is behind the best; None of the best itself, or without common seeds."""
        if other is self.best:
            return None
        return difference(self.best.average, other.average)

    def not_told_apart(self) -> list[Scored]:
        """Those whose difference to the best is inside its interval."""
        return [
            each
            for each in self.scored
            if each is not self.best
            and ((behind := self.behind_best(each)) is None or behind.verdict != "higher")
        ]


def rankings(evidence: Evidence, kind: str) -> list[Ranking]:
    """The rankings of a kind of stage, for each evaluation that has results.

    Pretraining is ranked among what had the same budget and size. Chains that went on from
    pretraining are ranked among those of their size, whatever the budgets before were.
    """
    found = []
    for evaluation in evidence.study.evaluations:
        budgets: dict[str, list[Scored]] = {}
        for chain in evidence.of_kind(kind):
            if (scored := _scored(evidence, chain, evaluation)) is not None:
                among = _budget(chain) if kind == "pretrain" else chain.any.size
                budgets.setdefault(among, []).append(scored)
        found += [
            Ranking(evaluation, kind, among if len(budgets) > 1 else "", made)
            for among, made in budgets.items()
        ]
    return found


def _budget(chain: Chain) -> str:
    """The budget of a chain as the study has it, with its size."""
    return f"{' + '.join(chain.any.budgets)}, {chain.any.size}"


def _scored(evidence: Evidence, chain: Chain, evaluation: Evaluation) -> Scored | None:
    results = evidence.evaluated(chain, evaluation)
    if not results:
        return None
    groups = scores.group_scores(results)
    if not groups:
        return None
    return Scored(chain, scores.average(groups), groups, scores.prompts(results))

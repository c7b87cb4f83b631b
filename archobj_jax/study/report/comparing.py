"""All chains under one evaluation, and how far each is behind the best."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

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
      examples: how many of each data set.
      left_out: data sets without accuracy, which are not in the average.
    """

    chain: Chain
    average: Score
    groups: Mapping[str, Score]
    prompts: Mapping[str, Mapping[str, float]]
    examples: Mapping[str, int]
    left_out: Sequence[str]


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
    def unmatched(self) -> list[str]:
        """In which budgets the chains differ, in words; empty if in none."""
        stages = [each.chain.any for each in self.scored]
        told = []
        if not alike([stage.pretraining_tokens for stage in stages]):
            told.append("not all of these were pretrained on as many tokens")
        if self.kind == "finetune" and not alike([stage.tokens for stage in stages]):
            told.append("not all were finetuned on as many tokens")
        return told

    @property
    def fewest_seeds(self) -> int:
        """That the best has in common with any other, or has at all if there is no other."""
        behind = [self.behind_best(each) for each in self.scored if each is not self.best]
        found = [each.seeds for each in behind if each is not None]
        return min([len(self.best.average.values), *found])

    @property
    def best(self) -> Scored:
        """The one with the highest average; of equal ones the first."""
        return max(self.scored, key=lambda each: each.average.value)

    def behind_best(self, other: Scored) -> Difference | None:
        """How far another is behind the best; None of the best itself, or without common seeds."""
        if other is self.best:
            return None
        return difference(self.best.average, other.average)

    def against_best(self, other: Scored) -> str:
        """The best, worse, or not told apart: the interval of the difference holds 0.

        Of fewer than `FEWEST_EXAMPLES` a bootstrap cannot tell, and nothing is told apart.
        """
        if other is self.best:
            return "highest"
        behind = self.behind_best(other)
        if behind is None:
            return "no seed in common"
        if behind.few:
            return "too few examples"
        return "worse" if behind.verdict == "higher" else "not told apart"

    def not_told_apart(self) -> list[Scored]:
        """Those that are not told apart from the best."""
        return [each for each in self.scored if self.against_best(each) not in ("highest", "worse")]


def rankings(evidence: Evidence, kind: str) -> list[Ranking]:
    """The rankings of a kind of stage, for each evaluation that has results.

    Pretraining is ranked among what had the same budget and size: as many tokens, or as many FLOPs
    where the study gives these. Chains that went on from pretraining are ranked among those of
    their size, whatever the budgets before were; adapted ones beside pretraining from scratch of
    the pairs that they were adapted to.
    """
    chains = list(evidence.of_kind(kind))
    if kind == "adapt":
        pairs = {chain.any.legs[-1][0] for chain in chains}
        chains += [chain for chain in evidence.of_kind("pretrain") if chain.pairs in pairs]
    found = []
    for evaluation in evidence.study.evaluations:
        among: dict[tuple[object, ...], list[Scored]] = {}
        for chain in chains:
            if (scored := _scored(evidence, chain, evaluation)) is not None:
                key = (chain.any.size, *(_budgets(chain) if kind == "pretrain" else ()))
                among.setdefault(key, []).append(scored)
        if kind == "adapt":
            among = {
                key: made
                for key, made in among.items()
                if any(each.chain.kind == kind for each in made)
            }
        found += [
            Ranking(evaluation, kind, _among(made[0].chain, kind) if len(among) > 1 else "", made)
            for made in among.values()
        ]
    return found


def alike(numbers: Sequence[float], step: float = 0.0) -> bool:
    """Whether budgets are the same but for whole steps: within 1%, or the longest `step`."""
    return max(numbers) - min(numbers) <= max(0.01 * max(numbers), step)


def _budgets(chain: Chain) -> Iterator[str | int]:
    """What chains of the same budget have in common, leg by leg."""
    for leg, budget in zip(chain.any.legs, chain.any.budgets, strict=True):
        yield budget if budget.endswith("FLOPs") else leg[2]


def _among(chain: Chain, kind: str) -> str:
    """Size and budgets that the chains of a ranking have in common, as the study has them."""
    size = chain.any.size
    return f"{' + '.join(chain.any.budgets)}, {size}" if kind == "pretrain" else size


def _scored(evidence: Evidence, chain: Chain, evaluation: Evaluation) -> Scored | None:
    results = evidence.evaluated(chain, evaluation)
    if not results:
        return None
    groups = scores.group_scores(results)
    if not groups:
        return None
    return Scored(
        chain,
        scores.average(groups),
        groups,
        scores.prompts(results, groups),
        scores.examples(results, groups),
        scores.without_accuracy(results),
    )

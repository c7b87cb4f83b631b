"""Averages of a suite over seeds, with intervals that know of seeds, examples and prompts.

With one seed an interval is the bootstrap's of `evaluation.statistics`: it leaves out how much the
figure would change with another seed. With S seeds of variance s^2 it is that of Welch and
Satterthwaite for the sum of two variances, s^2 / S of S - 1 degrees of freedom and the bootstrap's
of the mean over seeds, taken as known: value ± t(df) sqrt(s^2 / S + v).
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
from scipy import stats

from archobj_jax.evaluation.comparison import FEWEST_EXAMPLES
from archobj_jax.evaluation.examples import stacked
from archobj_jax.evaluation.results import EvaluationResults
from archobj_jax.evaluation.statistics import CONFIDENCE, Bootstrap, estimate, interval

METRIC = "accuracy"

_FEWEST_BEYOND = 5
"""Draws beyond a percentile, for it to be one."""

Verdict = Literal["higher", "lower", "not told apart"]
"""Of an interval that leaves out 0 on one side, or holds it."""


@dataclasses.dataclass(frozen=True)
class Score:
    """A figure over seeds.

    Attributes:
      values: by seed.
      draws: float64 [seeds, resamples], in the order of `values`; the same examples and prompts are
        drawn for all chains that were evaluated on the same tasks.
      chance: in percent; None if there is none.
      few: whether it is of so few examples that a bootstrap cannot tell: nothing is told apart.
    """

    values: Mapping[int, float]
    draws: np.ndarray
    chance: float | None = None
    few: bool = False

    @property
    def value(self) -> float:
        """Mean over seeds."""
        return float(np.mean(list(self.values.values())))

    @property
    def interval(self) -> tuple[float, float]:
        """Of 95%, in percent of what can be."""
        low, high = over_seeds(list(self.values.values()), self.draws)
        return max(0.0, low), min(100.0, high)

    def above_chance(self) -> Verdict | None:
        """Whether the interval leaves out chance; None without one."""
        if self.chance is None:
            return None
        low, high = self.interval
        return _verdict(low - self.chance, high - self.chance, few=self.few)

    def of(self, seeds: Sequence[int]) -> "Score":
        """The same with fewer seeds."""
        places = [list(self.values).index(seed) for seed in seeds]
        values = {seed: self.values[seed] for seed in seeds}
        return Score(values, self.draws[places], self.chance, self.few)


@dataclasses.dataclass(frozen=True)
class Difference:
    """A score less another, of the seeds that both have.

    Attributes:
      value: the difference.
      interval: of 95%, if not asked otherwise.
      seeds: how many.
      few: as `Score` has it, of either.
      verdict: whether the interval leaves out 0.
    """

    value: float
    interval: tuple[float, float]
    seeds: int
    few: bool = False

    @property
    def verdict(self) -> Verdict:
        """Of the first against the second; never better inside the interval."""
        return _verdict(*self.interval, few=self.few)


def over_seeds(
    values: Sequence[float], draws: np.ndarray, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """The interval of the mean of `values` [S] with bootstrap `draws` [S, resamples].

    Of one seed it is the draws' percentiles, or where too few draws lie beyond these, a normal's of
    their variance.
    """
    if len(values) == 1:
        if (1 - confidence) / 2 * draws.shape[1] >= _FEWEST_BEYOND:
            return interval(draws[0], confidence)
        half = float(stats.norm.ppf((1 + confidence) / 2) * np.nanstd(draws[0]))
        return values[0] - half, values[0] + half
    of_seeds = float(np.var(values, ddof=1)) / len(values)
    of_examples = float(np.nanvar(draws.mean(axis=0)))
    total = of_seeds + of_examples
    freedom = np.inf if of_seeds == 0 else (len(values) - 1) * (total / of_seeds) ** 2
    half = float(stats.t.ppf((1 + confidence) / 2, freedom)) * total**0.5
    mean = float(np.mean(values))
    return mean - half, mean + half


def difference(a: Score, b: Score, confidence: float = CONFIDENCE) -> Difference | None:
    """a - b, seed by seed, with an interval of `confidence`; None without a seed in common."""
    seeds = [seed for seed in a.values if seed in b.values]
    if not seeds:
        return None
    a, b = a.of(seeds), b.of(seeds)
    values = [a.values[seed] - b.values[seed] for seed in seeds]
    bounds = over_seeds(values, a.draws - b.draws, confidence)
    return Difference(float(np.mean(values)), bounds, len(seeds), a.few or b.few)


def group_scores(results: Mapping[int, EvaluationResults]) -> dict[str, Score]:
    """The data sets that all seeds have, each the figure over its prompts."""
    names = [name for name in _first(results).groups if _all_have(results, name)]
    found = {}
    for name in names:
        drawn = []
        values = {}
        for seed, result in results.items():
            group = result.groups[name]
            terms = stacked([result.tasks[task].examples for task in group.tasks])[METRIC]
            bootstrap = Bootstrap(seed=result.seed, resamples=result.resamples)
            draws = bootstrap.draws(
                {METRIC: terms}, name=f"group {name}", over_prompts=group.over_prompts
            )
            values[seed] = estimate(terms, group.over_prompts)
            drawn.append(draws[METRIC])
        few = examples(results, [name])[name] < FEWEST_EXAMPLES
        found[name] = Score(values, np.stack(drawn), _first(results).groups[name].chance, few)
    return found


def average(groups: Mapping[str, Score]) -> Score:
    """The mean over data sets."""
    scores = list(groups.values())
    chances = [score.chance for score in scores]
    chance = None if None in chances else float(np.mean([c for c in chances if c is not None]))
    values = {
        seed: float(np.mean([score.values[seed] for score in scores])) for seed in scores[0].values
    }
    few = any(score.few for score in scores)
    return Score(values, np.mean([score.draws for score in scores], axis=0), chance, few)


def prompts(
    results: Mapping[int, EvaluationResults], groups: Iterable[str]
) -> dict[str, dict[str, float]]:
    """Accuracy by data set and prompt, the mean over seeds."""
    first = _first(results)
    found: dict[str, dict[str, float]] = {}
    for name in groups:
        for task in first.groups[name].tasks:
            of_seeds = [r.tasks[task].metrics[METRIC].value for r in results.values()]
            found.setdefault(name, {})[first.tasks[task].prompt or task] = float(np.mean(of_seeds))
    return found


def examples(results: Mapping[int, EvaluationResults], groups: Iterable[str]) -> dict[str, int]:
    """How many different examples of each data set all seeds have answered."""
    return {
        name: min(int(result.groups[name].counts["examples"]) for result in results.values())
        for name in groups
    }


def without_accuracy(results: Mapping[int, EvaluationResults]) -> list[str]:
    """Data sets that are in no average, since they have no accuracy in every seed."""
    first = _first(results)
    return [name for name in first.groups if not _all_have(results, name)]


def _verdict(low: float, high: float, *, few: bool) -> Verdict:
    if few or low <= 0 <= high:
        return "not told apart"
    return "higher" if low > 0 else "lower"


def _first(results: Mapping[int, EvaluationResults]) -> EvaluationResults:
    return next(iter(results.values()))


def _all_have(results: Mapping[int, EvaluationResults], name: str) -> bool:
    return all(name in r.groups and METRIC in r.groups[name].metrics for r in results.values())

"""Metrics as ratios of sums over examples, and their intervals by bootstrap.

Every metric here is sum(numerators) / sum(denominators) over examples, for each prompt; prompts
become one figure by their median or mean. A bootstrap resample draws examples, with replacement,
and uses the same draw for all prompts and all metrics, since they concern the same examples; then
it draws prompts. Its 2.5th and 97.5th percentiles are the interval (Efron and Tibshirani 1993, "An
Introduction to the Bootstrap", chapter 13); that drawing both ways is not too narrow is shown by
Owen 2007, "The pigeonhole bootstrap".
"""

import dataclasses
import warnings
from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeVar

import numpy as np

from archobj_jax.data import seeds
from archobj_jax.objectives import rng_for

OverPrompts = Literal["median", "mean"]
"""How the figures of a data set's prompts become one."""

CONFIDENCE = 0.95
_CELLS = 2_000_000
"""Examples x resamples that are drawn at a time: 16 MB."""

K = TypeVar("K")


class Terms(NamedTuple):
    """What each example adds to a metric: float64 [P, n], for P prompts and n examples.

    Denominators are 0 where an example does not exist under a prompt.
    """

    numerators: np.ndarray
    denominators: np.ndarray


@dataclasses.dataclass(frozen=True)
class Bootstrap:
    """How intervals are drawn.

    Attributes:
      seed: of the evaluation.
      resamples: how many.
    """

    seed: int = 0
    resamples: int = 1000

    def draws(
        self, terms: Mapping[K, Terms], *, name: str, over_prompts: OverPrompts = "median"
    ) -> dict[K, np.ndarray]:
        """Each metric in every resample: float64 [resamples].

        A prompt of which no example was drawn is left out of a resample; NaN if all are.

        Args:
          terms: of the metrics, for the same prompts and examples.
          name: of the task or data set; the stream of random numbers is keyed by seed and name.
          over_prompts: how the figures of the prompts become one.
        """
        prompts = len(next(iter(terms.values())).numerators)
        rng = rng_for(seeds.named(self.seed, f"bootstrap {name}"), 0)
        columns = np.concatenate([np.concatenate(pair) for pair in terms.values()]).T
        sums = _resampled_sums(columns, rng, self.resamples)
        sums = sums.reshape(self.resamples, len(terms), 2, prompts)
        chosen = rng.integers(prompts, size=(self.resamples, 1, prompts))
        ratios = np.take_along_axis(_ratio(sums[:, :, 0], sums[:, :, 1]), chosen, axis=2)
        figures = one_figure(ratios, over_prompts)
        return {key: figures[:, index] for index, key in enumerate(terms)}


def estimate(terms: Terms, over_prompts: OverPrompts = "median") -> float:
    """The metric itself."""
    ratios = _ratio(terms.numerators.sum(axis=1), terms.denominators.sum(axis=1))
    return float(one_figure(ratios, over_prompts))


def one_figure(by_prompt: np.ndarray, over_prompts: OverPrompts) -> np.ndarray:
    """Median or mean of [..., P] over its last axis, without NaNs."""
    if not np.isnan(by_prompt).any():
        return (np.median if over_prompts == "median" else np.mean)(by_prompt, axis=-1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # where all are NaN, so is the result
        return (np.nanmedian if over_prompts == "median" else np.nanmean)(by_prompt, axis=-1)


def interval(draws: np.ndarray, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The percentile interval of float64 [resamples]; NaNs are left out."""
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(draws, [tail, 1 - tail])
    return float(low), float(high)


def _ratio(numerators: np.ndarray, denominators: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return numerators / denominators


def _resampled_sums(columns: np.ndarray, rng: np.random.Generator, resamples: int) -> np.ndarray:
    """Sums of [n, M] over n rows drawn with replacement, many times: [resamples, M].

    A resample is how often each row was drawn, so that all sums are one matrix product.
    """
    count = len(columns)
    at_a_time = max(1, _CELLS // count)
    sums = []
    for start in range(0, resamples, at_a_time):
        size = min(at_a_time, resamples - start)
        drawn = rng.integers(count, size=(size, count)) + np.arange(size)[:, None] * count
        times = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count)
        sums.append(times.astype(np.float64) @ columns)
    return np.concatenate(sums)

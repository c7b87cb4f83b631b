"""How many fewer tokens an adapted model needs than one from scratch (the paper's figure 6)."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from scipy import stats

from archobj_jax.evaluation.statistics import CONFIDENCE
from archobj_jax.study.report.evidence import Chain, Curve, Evidence

PAPER = {"CD:FLM → ND:MLM": 3.3, "ND:MLM → CD:FLM": 1.6}
"""The paper's speed-ups: NC-A, and LM-A."""


@dataclasses.dataclass(frozen=True)
class SpeedUp:
    """An adapted chain beside pretraining from scratch, of the same size, pair and seeds.

    Attributes:
      adapted, scratch: the chains.
      reached: by seed, tokens from scratch at its last held-out loss, and tokens of all its legs
        of that pair until it first had that loss; None if it never had.
        It may be 0, before any step: then there is no ratio either.
    """

    adapted: Chain
    scratch: Chain
    reached: dict[int, tuple[float, float | None]]

    @property
    def ratios(self) -> list[float]:
        """Tokens from scratch for one of the adaptation, of the seeds that reached the loss."""
        return [scratch / ours for scratch, ours in self.reached.values() if ours]

    @property
    def all_reached(self) -> bool:
        """Whether every seed reached the loss, and none had it before its first step."""
        return len(self.ratios) == len(self.reached)

    @property
    def ratio(self) -> float | None:
        """Geometric mean over seeds; None unless all reached the loss."""
        return float(np.exp(np.mean(np.log(self.ratios)))) if self.all_reached else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of 95%, over seeds (Student's, of logarithms); None with fewer than two."""
        logs = np.log(self.ratios)
        if not self.all_reached or len(logs) < 2:
            return None
        error = float(np.std(logs, ddof=1)) / len(logs) ** 0.5
        half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(logs) - 1)) * error
        mean = float(np.mean(logs))
        return float(np.exp(mean - half)), float(np.exp(mean + half))


def speed_ups(evidence: Evidence) -> Iterator[SpeedUp]:
    """Each adaptation beside the longest pretraining from scratch of its last pair."""
    for adapted in evidence.of_kind("adapt"):
        pair = adapted.any.legs[-1][0]
        alike = [
            chain
            for chain in evidence.of_kind("pretrain")
            if chain.pairs == pair
            and chain.any.size == adapted.any.size
            and set(chain.stages) & set(adapted.stages)
        ]
        if not alike:
            continue
        scratch = max(alike, key=lambda chain: chain.any.pretraining_tokens)
        reached = {}
        for seed in sorted(set(scratch.stages) & set(adapted.stages)):
            reference = evidence.curve_of_pair(scratch.stages[seed])
            ours = evidence.curve_of_pair(adapted.stages[seed])
            if reference and ours:
                tokens, loss = reference[-1]
                reached[seed] = (tokens, tokens_to_reach(ours, loss))
        if reached:
            yield SpeedUp(adapted, scratch, reached)


def tokens_to_reach(points: Sequence[tuple[float, float]] | Curve, loss: float) -> float | None:
    """The tokens at which a curve, straight between its points, first falls to `loss`; or None."""
    before = None
    for tokens, value in points:
        if value <= loss:
            if before is None or before[1] == value:
                return tokens
            share = (before[1] - loss) / (before[1] - value)
            return before[0] + share * (tokens - before[0])
        before = tokens, value
    return None

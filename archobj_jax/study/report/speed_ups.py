"""How many fewer tokens an adapted model needs than one from scratch (the paper's figure 6)."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from scipy import stats

from archobj_jax.evaluation.statistics import CONFIDENCE
from archobj_jax.study.graph import Stage
from archobj_jax.study.report.evidence import Chain, Curve, Evidence

PAPER = {"CD:FLM → ND:MLM": 3.3, "ND:MLM → CD:FLM": 1.6}
"""The paper's speed-ups: NC-A, and LM-A."""


@dataclasses.dataclass(frozen=True)
class SpeedUp:
    """An adapted chain beside pretraining from scratch, of the same size, pair and seeds.

    Attributes:
      adapted, scratch: the chains.
      reached: by seed, tokens from scratch and tokens of the adaptation, all legs of that pair,
        until each first had the last held-out loss from scratch; None if the latter never had. It
        may be 0, before any step: then there is no ratio either. Counting to the first time on
        both sides, noise of the losses favours neither.
      lacking: by seed, which of the two has no held-out loss after its last step; what of that seed
        is reached is not known then, and there is no ratio.
    """

    adapted: Chain
    scratch: Chain
    reached: Mapping[int, tuple[float, float | None]]
    lacking: Mapping[int, Chain] = dataclasses.field(default_factory=dict)

    @property
    def ratios(self) -> list[float]:
        """Tokens from scratch for one of the adaptation, of the seeds that reached the loss."""
        return [scratch / ours for scratch, ours in self.reached.values() if ours]

    @property
    def all_reached(self) -> bool:
        """Whether every seed is known to have reached the loss, none before its first step."""
        return not self.lacking and len(self.ratios) == len(self.reached)

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
    """Each adaptation beside a pretraining from scratch of its last pair.

    Of several it is the one whose tokens are nearest to those of the pretraining that the
    adaptation began with, as the paper has it.
    """
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
        begun = begun_with(adapted.any)
        scratch = min(alike, key=lambda chain: abs(chain.any.pretraining_tokens - begun))
        reached, lacking = {}, {}
        for seed in sorted(set(scratch.stages) & set(adapted.stages)):
            without = [
                chain
                for chain in (scratch, adapted)
                if evidence.last_loss(chain.stages[seed]) is None
            ]
            if without:
                lacking[seed] = without[0]
                continue
            theirs, ours = (
                evidence.curve_of_pair(chain.stages[seed]) for chain in (scratch, adapted)
            )
            loss = theirs[-1][1]
            tokens = tokens_to_reach(theirs, loss)
            assert tokens is not None  # at the last point, if not before
            reached[seed] = (tokens, tokens_to_reach(ours, loss))
        yield SpeedUp(adapted, scratch, reached, lacking)


def begun_with(adapted: Stage) -> int:
    """Tokens of a chain before its last pair, which goes on over the last legs of it."""
    legs = adapted.legs
    own = len(list(itertools.takewhile(lambda leg: leg[0] == legs[-1][0], reversed(legs))))
    return sum(leg[2] for leg in legs[:-own])


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

"""The paper's numbers (Wang et al. 2022, figures 4 and 7, table 3), and whether ours agree."""

import dataclasses
import functools
import itertools
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from scipy import stats

from archobj_jax.evaluation.statistics import CONFIDENCE
from archobj_jax.study.design import Average
from archobj_jax.study.report.scores import Score, difference

CHANCE: Mapping[Average, float] = {"EAI": 33.3, "T0": 41.7}
"""As the paper plots it; it also has 32.9 for EAI."""


@dataclasses.dataclass(frozen=True)
class Row:
    """Cells of the paper that had the same training but for architecture and objective.

    Attributes:
      when: in words.
      kind: of the last stage.
      tokens: of pretraining, of most cells.
      cells: by chain without budgets.
      others: tokens of pretraining of cells that had others.
    """

    when: str
    kind: str
    tokens: float
    cells: Mapping[str, Mapping[Average, float]]
    others: Mapping[str, float] = dataclasses.field(default_factory=dict)


PAPER: Sequence[Row] = (
    Row(
        "pretraining only, 168B tokens",
        "pretrain",
        168e9,
        {
            "CD:FLM": {"EAI": 44.2, "T0": 42.4},
            "ND:PLM": {"EAI": 43.5, "T0": 41.8},
            "ED:PLM": {"EAI": 39.9, "T0": 41.7},
        },
    ),
    Row(
        "pretraining only, 84B tokens",
        "pretrain",
        84e9,
        {
            "CD:FLM": {"EAI": 42.4},
            "ND:PLM": {"EAI": 42.2},
            "ED:PLM": {"EAI": 39.6},
            "CD:MLM": {"EAI": 37.8},
            "ND:MLM": {"EAI": 37.7},
            "ED:MLM": {"EAI": 34.6},
        },
    ),
    Row(
        "after MTF, 168B tokens (219B of the adapted one and of CD:FLM → ND:MTF) and 13B",
        "finetune",
        168e9,
        {
            "CD:FLM → CD:MTF": {"EAI": 50.4, "T0": 51.4},
            "ND:PLM → ND:MTF": {"EAI": 48.9, "T0": 54.0},
            "ED:PLM → ED:MTF": {"EAI": 44.2, "T0": 45.8},
            "CD:MLM → CD:MTF": {"EAI": 47.1, "T0": 50.3},
            "ND:MLM → ND:MTF": {"EAI": 51.0, "T0": 55.2},
            "ED:MLM → ED:MTF": {"EAI": 51.3, "T0": 60.6},
            "CD:FLM → ND:MTF": {"EAI": 52.3, "T0": 52.0},
            "CD:FLM → ND:MLM → ND:MTF": {"EAI": 52.3, "T0": 54.9},
        },
        {"CD:FLM → ND:MTF": 219e9, "CD:FLM → ND:MLM → ND:MTF": 219e9},
    ),
)


@dataclasses.dataclass(frozen=True)
class Agreement:
    """Our figures beside the paper's, of the cells that both have.

    Attributes:
      when: the paper's training, in words.
      average: T0 or EAI.
      names: our chains.
      paper, ours: in that order.
    """

    when: str
    average: Average
    names: tuple[str, ...]
    paper: tuple[float, ...]
    ours: tuple[Score, ...]

    @property
    def tau(self) -> float | None:
        """Kendall's tau-b of the two orders; None with fewer than two cells, or all alike."""
        if len(self.paper) < 2:
            return None
        tau = stats.kendalltau(self.paper, [score.value for score in self.ours]).statistic
        return None if np.isnan(tau) else float(tau)

    @functools.cached_property
    def told_apart(self) -> tuple[int, int, int]:
        """Pairs of cells that the paper orders; those that we order alike, and the other way.

        We order a pair if the interval of its difference leaves out 0, at 95% for all pairs
        together (Bonferroni's correction).
        """
        pairs = [
            (i, j) if self.paper[i] > self.paper[j] else (j, i)
            for i, j in itertools.combinations(range(len(self.paper)), 2)
            if self.paper[i] != self.paper[j]
        ]
        confidence = 1 - (1 - CONFIDENCE) / max(1, len(pairs))
        found = [difference(self.ours[i], self.ours[j], confidence) for i, j in pairs]
        verdicts = [each.verdict for each in found if each is not None]
        return len(pairs), verdicts.count("higher"), verdicts.count("lower")

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of tau: its least and its greatest value while pairs not told apart may lie either way.

        A bootstrap of tau would not do: noise brings it nearer to 0 than it is.
        """
        pairs, alike, reverse = self.told_apart
        if self.tau is None:
            return None
        unknown = pairs - alike - reverse
        scale = math.sqrt(pairs * math.comb(len(self.paper), 2))
        return (alike - reverse - unknown) / scale, (alike - reverse + unknown) / scale


@dataclasses.dataclass(frozen=True)
class Cell:
    """One of our averages.

    Attributes:
      name: of the chain.
      pairs: the chain without budgets.
      tokens: of pretraining.
      score: the average.
    """

    name: str
    pairs: str
    tokens: int
    score: Score


def agreements(
    groups: Iterable[Sequence[Cell]], kind: str, average: Average
) -> Iterator[Agreement]:
    """Our cells beside the paper's, of one kind of last stage.

    A group of as many tokens as a row of the paper stands beside that row. Where none is, the study
    being of another scale, the group of the most tokens stands beside the row that has the most
    cells in common with it, of such rows the first.

    Args:
      groups: our cells, apart by the budget of pretraining.
      kind: of the last stage.
      average: of the paper.
    """
    rows = [row for row in PAPER if row.kind == kind]
    ours = [group for group in groups if group]
    exact = [
        (group, row)
        for group in ours
        for row in rows
        if abs(_tokens(group) - row.tokens) <= 0.01 * row.tokens
    ]
    if not exact and ours:
        longest = max(ours, key=_tokens)
        most = max(rows, key=lambda row: len(_common(longest, row, average)))
        exact = [(longest, most)]
    for group, row in exact:
        if common := _common(group, row, average):
            yield Agreement(
                row.when,
                average,
                tuple(cell.name for cell in common),
                tuple(row.cells[cell.pairs][average] for cell in common),
                tuple(cell.score for cell in common),
            )


def _tokens(group: Sequence[Cell]) -> int:
    """Of pretraining, of most cells."""
    return statistics.mode(cell.tokens for cell in group)


def _common(group: Sequence[Cell], row: Row, average: Average) -> list[Cell]:
    """The cells that the paper has too; of several budgets of a chain the paper's, or nearest it.

    At another scale than the paper's, budgets are told by their ratio to that of most cells.
    """
    scale = _tokens(group) / row.tokens

    def far(cell: Cell) -> float:
        return abs(cell.tokens - scale * row.others.get(cell.pairs, row.tokens))

    found: dict[str, Cell] = {}
    for cell in sorted(group, key=far, reverse=True):
        if average in row.cells.get(cell.pairs, {}):
            found[cell.pairs] = cell
    return [cell for cell in group if found.get(cell.pairs) is cell]

"""Tables of accuracies: averages, data sets, the paper's beside ours, speed-ups."""

from collections.abc import Sequence

from archobj_jax.study.report.comparing import Ranking
from archobj_jax.study.report.evidence import Chain, Evidence
from archobj_jax.study.report.paper import Agreement
from archobj_jax.study.report.speed_ups import PAPER as PAPER_SPEED_UPS
from archobj_jax.study.report.speed_ups import SpeedUp
from archobj_jax.study.report.stage_tables import anchor
from archobj_jax.study.report.tables import Cell, Link, Table, Tokens, bounds, figure

_INTERVALS = (
    "Low and high bound an interval of 95%, by bootstrap over examples and prompts and, with two "
    "seeds or more, by their spread (Student's t)."
)


_FROM_CHANCE = {
    "higher": "above",
    "lower": "below",
    "not told apart": "not told apart",
    None: "",
}


def link(chain: Chain) -> Link:
    """A chain, with a link to its last stage."""
    return Link(chain.name, anchor(chain.any))


def averages(ranking: Ranking, name: str, title: str) -> Table:
    """Averages with chance, and how far each is behind the best."""
    rows: list[list[Cell]] = []
    for each in ranking.scored:
        behind = ranking.behind_best(each)
        score = each.average
        rows.append(
            [
                link(each.chain),
                f"{len(score.values)}",
                figure(score.value),
                *bounds(score.interval),
                figure(score.chance),
                _FROM_CHANCE[score.above_chance()],
                figure(None if behind is None else behind.value),
                *bounds(None if behind is None else behind.interval),
                ranking.against_best(each),
            ]
        )
    left_out = sorted({name for each in ranking.scored for name in each.left_out})
    without = f" Not in it, for want of accuracy: {', '.join(left_out)}." if left_out else ""
    return Table(
        name,
        title,
        (
            "chain", "seeds", "average", "low", "high", "chance", "from chance",
            "behind best", "behind low", "behind high", "against best",
        ),
        rows,
        note=(
            f"Accuracy in percent, the mean over data sets.{without} {_INTERVALS} Each is for "
            "itself: of many comparisons some leave out 0 by chance."
        ),
    )  # fmt: skip


def data_sets(ranking: Ranking, name: str, title: str) -> Table:
    """Accuracy of each chain on each data set, with the spread of its prompts."""
    rows: list[list[Cell]] = []
    for each in ranking.scored:
        for group, score in each.groups.items():
            of_prompts = each.prompts[group].values()
            rows.append(
                [
                    link(each.chain),
                    group,
                    f"{len(score.values)}",
                    f"{each.examples[group]}",
                    figure(score.value),
                    *bounds(score.interval),
                    figure(score.chance),
                    f"{len(of_prompts)}",
                    figure(min(of_prompts)),
                    figure(max(of_prompts)),
                ]
            )
    return Table(
        name,
        title,
        (
            "chain", "data set", "seeds", "examples", "accuracy", "low", "high", "chance",
            "prompts", "worst prompt", "best prompt",
        ),
        rows,
        note=(
            f"Accuracy in percent, over the prompts of a data set; of several seeds the mean of "
            f"theirs, while each prompt is a mean over seeds. {_INTERVALS}"
        ),
    )  # fmt: skip


def prompt_spread(ranking: Ranking, name: str, title: str) -> Table:
    """Accuracy of each chain under each prompt."""
    rows: list[list[Cell]] = [
        [link(each.chain), group, prompt, figure(value)]
        for each in ranking.scored
        for group, of_group in each.prompts.items()
        for prompt, value in of_group.items()
    ]
    note = "Accuracy in percent, the mean over seeds."
    return Table(name, title, ("chain", "data set", "prompt", "accuracy"), rows, note=note)


def agreements(found: Sequence[Agreement]) -> list[Table]:
    """The paper's cells beside ours, then how far the orders agree."""
    cells: list[list[Cell]] = []
    taus: list[list[Cell]] = []
    for each in found:
        for name, paper, ours in zip(each.names, each.paper, each.ours, strict=True):
            cells.append(
                [each.when, each.average, name, figure(paper), figure(ours.value),
                 *bounds(ours.interval)]
            )  # fmt: skip
        taus.append(
            [each.when, each.average, f"{len(each.names)}", figure(each.tau, 2),
             *bounds(each.interval, 2), *(f"{count}" for count in each.told_apart)]
        )  # fmt: skip
    return [
        Table(
            "paper",
            "The paper's numbers and ours",
            ("the paper's training", "average", "our chain", "paper", "ours", "low", "high"),
            cells,
            note="The paper's are of 4.8B and 11B parameters, and of its own tasks.",
        ),
        Table(
            "paper_order",
            "Agreement of the two orders",
            (
                "the paper's training",
                "average",
                "cells",
                "Kendall's tau",
                "low",
                "high",
                "pairs",
                "told apart alike",
                "told apart the other way",
            ),
            taus,
            note=(
                "Tau is 1 if both order all cells alike, -1 if one is the other's reverse. Its "
                "interval, of 95%, is from the pairs of cells that we tell apart: those that we do "
                "not may lie either way. One that holds 0 does not show agreement. Of one seed it "
                "leaves out how much another would change."
            ),
        ),
    ]


def speed_ups(found: Sequence[SpeedUp]) -> Table:
    """Tokens to the loss of a run from scratch."""
    rows: list[list[Cell]] = []
    for each in found:
        for seed, (of_scratch, of_ours) in each.reached.items():
            rows.append(
                [link(each.adapted), link(each.scratch), f"{seed}", Tokens(of_scratch),
                 "not reached" if of_ours is None else Tokens(of_ours),
                 f"{of_scratch / of_ours:.2f}" if of_ours else "", "", "", ""]
            )  # fmt: skip
        for seed, chain in each.lacking.items():
            why = "no last loss"
            scratch, ours = (why, "") if chain == each.scratch else ("", why)
            rows.append(
                [link(each.adapted), link(each.scratch), f"{seed}", scratch, ours, "", "", "", ""]
            )
        low, high = bounds(each.interval, 2)
        paper = figure(PAPER_SPEED_UPS.get(each.adapted.pairs))
        rows.append(
            [link(each.adapted), link(each.scratch), "all", "", "", figure(each.ratio, 2),
             low, high, paper]
        )  # fmt: skip
    return Table(
        "speed_up",
        "Tokens to the last held-out loss of a model from scratch",
        ("adapted", "from scratch", "seed", "tokens from scratch", "tokens adapted", "speed-up",
         "low", "high", "paper"),
        rows,
        note=(
            "Tokens until the loss is first reached, on a straight line between evaluations; of "
            "the adaptation only: what it starts from has cost more, see the stages. The interval "
            "is over seeds, of 95%; of one seed there is none. The paper's are of 168B tokens from "
            "scratch."
        ),
    )  # fmt: skip


def curves(evidence: Evidence, found: Sequence[SpeedUp]) -> Table:
    """The held-out losses behind the speed-ups."""
    rows: list[list[Cell]] = []
    chains = {chain.name: chain for each in found for chain in (each.adapted, each.scratch)}
    for chain in chains.values():
        for seed, stage in sorted(chain.stages.items()):
            for tokens, loss in evidence.curve_of_pair(stage):
                rows.append([link(chain), f"{seed}", f"{tokens:.0f}", f"{loss:.4f}"])
    return Table(
        "curves",
        "Held-out loss",
        ("chain", "seed", "tokens", "loss"),
        rows,
        note=(
            "In nats a token, of the objective that the stage trains; tokens of the adaptation, or "
            "from scratch."
        ),
    )

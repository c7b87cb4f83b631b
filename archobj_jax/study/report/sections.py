"""What the report says, section by section."""

import dataclasses
from collections.abc import Iterator, Sequence

from archobj_jax.study.design import Average, slug
from archobj_jax.study.report import (
    answer,
    figures,
    lineage_figure,
    paper,
    score_tables,
    stage_tables,
)
from archobj_jax.study.report.comparing import Ranking, rankings
from archobj_jax.study.report.evidence import Evidence
from archobj_jax.study.report.figures import Figure
from archobj_jax.study.report.speed_ups import SpeedUp, speed_ups
from archobj_jax.study.report.tables import Table
from archobj_jax.training.lineage import counted


@dataclasses.dataclass(frozen=True)
class Section:
    """A section.

    Attributes:
      anchor: on the page.
      title: its heading.
      text: paragraphs.
      figures, tables: in this order, after the text.
      folded: tables that are shown when asked for.
    """

    anchor: str
    title: str
    text: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    folded: Sequence[Table] = ()


def sections(evidence: Evidence) -> list[Section]:
    """The sections of the report."""
    pretraining = rankings(evidence, "pretrain")
    finetuning = rankings(evidence, "finetune")
    adapted = rankings(evidence, "adapt")
    found = list(speed_ups(evidence))
    sentences = answer.answer(evidence, pretraining, finetuning, found)
    return [
        Section("answer", "The answer", [answer.question(evidence), *sentences]),
        _ranked(
            pretraining,
            "pretraining",
            "Pretraining only",
            "Zero-shot after pretraining only, as in the paper's table 3.",
        ),
        _ranked(
            finetuning,
            "finetuning",
            "After multitask prompted finetuning",
            "Zero-shot after MTF, as in the paper's figure 4; per data set and prompt as in its "
            "figure 8.",
        ),
        _adaptation(evidence, found, adapted),
        _stages(evidence),
        _paper([*pretraining, *finetuning]),
        Section(
            "cost",
            "Cost and commands",
            tables=[stage_tables.cost(evidence)],
            folded=[stage_tables.commands(evidence)],
        ),
    ]


def _ranked(found: Sequence[Ranking], anchor: str, title: str, text: str) -> Section:
    if not found:
        return Section(anchor, title, [text, "Nothing is evaluated yet."])
    drawn = [
        figures.averages(
            found,
            anchor,
            f"{title}: averages with intervals of 95%; the dashed line is chance.",
        )
    ]
    tables, folded = [], []
    for ranking in found:
        name = f"{anchor}_{slug(ranking.title)}"
        called = ranking.title
        tables.append(score_tables.averages(ranking, name, f"{called}: averages"))
        folded.append(score_tables.data_sets(ranking, f"{name}_data_sets", f"{called}: data sets"))
        folded.append(score_tables.prompt_spread(ranking, f"{name}_prompts", f"{called}: prompts"))
        drawn.append(
            figures.data_sets(
                ranking,
                f"{name}_data_sets",
                f"{called}: each data set (diamonds) and each of its prompts (strokes).",
            )
        )
    texts = [text]
    if told := answer.unmatched(found):
        texts.append(f"Of the chains below, {'; '.join(told)}: see the stages.")
    return Section(anchor, title, texts, drawn, tables, folded)


def _adaptation(
    evidence: Evidence, found: Sequence[SpeedUp], adapted: Sequence[Ranking]
) -> Section:
    text = ["Adapted against from scratch, as in the paper's figures 6 and 7."]
    drawn, tables, folded = [], [], []
    if found:
        tables.append(score_tables.speed_ups(found))
        curves = score_tables.curves(evidence, found)
        if curves.rows:
            caption = "Held-out loss against tokens."
            drawn.append(figures.curves(evidence, found, "adaptation", caption))
            folded.append(curves)
    else:
        text.append("No adaptation is done beside one from scratch yet.")
    if adapted:
        drawn.append(
            figures.averages(
                adapted,
                "adapted",
                "After adaptation only, beside the same pairs from scratch; the dashed line is "
                "chance.",
            )
        )
        for ranking in adapted:
            name = f"adapted_{slug(ranking.title)}"
            title = f"{ranking.title}: averages after adaptation only, and from scratch"
            tables.append(score_tables.averages(ranking, name, title))
    return Section("adaptation", "Adaptation", text, drawn, tables, folded)


def _stages(evidence: Evidence) -> Section:
    training = [stage for stage in evidence.graph if stage.evaluation is None]
    text = [f"{len(training)} training stages, {len(evidence.graph) - len(training)} evaluations."]
    tokens, operations = (
        sum(getattr(stage, what) for stage in training if evidence.store.is_done(stage))
        for what in ("tokens", "flops")
    )
    text.append(f"Those done read {counted(tokens)} tokens in {operations:.4g} FLOPs.")
    text += evidence.graph.notes
    drawn = lineage_figure.lineage(
        evidence,
        "lineage",
        "What starts from what; a box leads to its row below. Dashed ones are not done.",
    )
    return Section("stages", "Stages", text, [drawn], [stage_tables.stages(evidence)])


def _paper(found: Sequence[Ranking]) -> Section:
    agreements = list(_agreements(found))
    title = "Beside the paper"
    if not agreements:
        return Section("paper", title, ["No cell of the paper is among the chains evaluated."])
    text = [
        f"Chance was {paper.CHANCE['T0']} % for the paper's T0 average and "
        f"{paper.CHANCE['EAI']} % for its EAI average."
    ]
    caption = "Our averages against the paper's; bars are our intervals of 95%."
    several = [each for each in agreements if each.names[1:]]  # one point shows no order
    drawn = [figures.agreement(several, "agreement", caption)] if several else []
    return Section("paper", title, text, drawn, score_tables.agreements(agreements))


def _agreements(found: Sequence[Ranking]) -> Iterator[paper.Agreement]:
    groups: dict[tuple[str, str, Average, str], list[Ranking]] = {}
    for ranking in found:
        if (average := ranking.evaluation.beside) is not None:
            size = ranking.best.chain.any.size
            key = (ranking.kind, ranking.evaluation.name, average, size)
            groups.setdefault(key, []).append(ranking)
    for (kind, _, average, _), of_budgets in groups.items():
        yield from paper.agreements(map(_cells, of_budgets), kind, average)


def _cells(ranking: Ranking) -> list[paper.Cell]:
    return [
        paper.Cell(
            each.chain.name, each.chain.pairs, each.chain.any.pretraining_tokens, each.average
        )
        for each in ranking.scored
    ]

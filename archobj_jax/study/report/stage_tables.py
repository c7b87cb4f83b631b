"""Tables of stages: the paper's Table 8, cost, and the command of every number."""

from collections.abc import Iterator, Sequence
from typing import Any

from archobj_jax.study.graph import Stage
from archobj_jax.study.report.evidence import Evidence
from archobj_jax.study.report.tables import Cell, Link, Table, Tokens, figure
from archobj_jax.study.store import command_line

_DIGITS = 10
"""Of a fingerprint, as names of folders have them."""


def anchor(stage: Stage) -> str:
    """The anchor of a stage on the page."""
    return f"stage-{stage.fingerprint}"


def stages(evidence: Evidence) -> Table:
    """Every training stage in the paper's notation."""
    rows: list[list[Cell]] = []
    anchors = []
    for stage in _training(evidence):
        parent = evidence.graph.parent(stage)
        records = [record for record in evidence.store.records(stage) if "loss" in record]
        done = evidence.store.is_done(stage)
        anchors.append(anchor(stage))
        rows.append(
            [
                evidence.name(stage),
                stage.kind,
                stage.size,
                f"{stage.seed}",
                "done" if done else "not done",
                f"{stage.start_step}",
                f"{stage.total_steps}",
                Tokens(stage.tokens),
                f"{stage.flops:.4g}",
                f"{stage.parameters}",
                figure(records[-1]["loss"], 4) if done and records else "",
                figure(evidence.last_loss(stage), 4) if done else "",
                stage.fingerprint[:_DIGITS],
                "" if parent is None else Link(parent.fingerprint[:_DIGITS], anchor(parent)),
            ]
        )
    return Table(
        "stages",
        "All training stages",
        (
            "stage", "kind", "size", "seed", "state", "from step", "to step", "tokens", "FLOPs",
            "parameters", "loss", "held-out loss", "fingerprint", "starts from",
        ),
        rows,
        note=(
            "As in the paper's Table 8. Budgets are met to the nearest whole step. Tokens are "
            "positions read, padding included; losses of different objectives do not compare, nor "
            "those after MTF of ED with others', whose rows hold other examples."
        ),
        anchors=anchors,
    )  # fmt: skip


def cost(evidence: Evidence) -> Table:
    """What every stage took: times differ from one run to the next."""
    rows: list[list[Cell]] = []
    for stage in evidence.graph:
        if not evidence.store.is_done(stage):
            continue
        records = [record for record in evidence.store.records(stage) if "loss" in record]
        seconds, share = _training_seconds(records, stage)
        wall = sum(attempt["seconds"] for attempt in evidence.store.attempts(stage))
        rows.append(
            [
                Link(
                    stage.label, anchor(stage if stage.evaluation is None else _of(evidence, stage))
                ),
                Tokens(stage.tokens) if stage.tokens else "",
                f"{records[-1]['tokens_seen']:.0f}" if records else "",
                f"{stage.flops:.4g}" if stage.flops else "",
                figure(seconds or None),
                figure(100 * share if share is not None else None),
                figure(wall or None),
                f"{len(evidence.store.attempts(stage)) or ''}",
            ]
        )
    return Table(
        "cost",
        "Cost",
        (
            "stage", "tokens", "without padding", "FLOPs", "seconds in steps",
            "% of peak", "seconds in all", "attempts",
        ),
        rows,
        note=(
            "FLOPs are counted from the model, attention and cross-attention included, nothing "
            "that is computed again; an evaluation's are not counted. Seconds in steps leave out "
            "start, compilation, evaluation and saving; seconds in all leave out what kill -9 cut "
            "off: they are a lower bound. Of all tables only this one, which holds times, and that "
            "of commands differ between two runs of a study."
        ),
    )  # fmt: skip


def commands(evidence: Evidence) -> Table:
    """How each stage is run again."""
    rows: list[list[Cell]] = [
        [
            Link(stage.label, anchor(stage if stage.evaluation is None else _of(evidence, stage))),
            command_line(evidence.store.arguments(stage, evidence.graph)),
        ]
        for stage in evidence.graph
    ]
    return Table(
        "commands",
        "How to reproduce each number",
        ("stage", "command"),
        rows,
        note=(
            "In this order; or all at once by `archobj study run`. Give another MODEL_DIR or "
            "EVAL_OUTPUT_DIR: in the folders named here they are done, and nothing would run."
        ),
    )


def _training(evidence: Evidence) -> Iterator[Stage]:
    return (stage for stage in evidence.graph if stage.evaluation is None)


def _of(evidence: Evidence, evaluation: Stage) -> Stage:
    parent = evidence.graph.parent(evaluation)
    assert parent is not None
    return parent


def _training_seconds(
    records: Sequence[dict[str, Any]], stage: Stage
) -> tuple[float, float | None]:
    """Seconds in steps, and the share of peak over them; 0 and None without records."""
    seconds, weighted, before = 0.0, 0.0, stage.start_step
    for record in records:
        spent = (record["step"] - before) * record["seconds_per_step"]
        seconds, weighted, before = (
            seconds + spent,
            weighted + spent * record["share_of_peak"],
            record["step"],
        )
    return seconds, weighted / seconds if seconds else None

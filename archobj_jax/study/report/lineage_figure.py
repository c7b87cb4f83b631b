"""The lineage of all stages as a graph: a box a stage, an arrow to what starts from it."""

from typing import Any

import altair as alt

from archobj_jax.study.report.evidence import Evidence
from archobj_jax.study.report.figures import COLOURS, Figure, rendered
from archobj_jax.study.report.stage_tables import anchor
from archobj_jax.training.lineage import counted

_COLUMN, _ROW, _WIDE, _HIGH = 220, 46, 170, 30
_KINDS = {"pretrain": COLOURS[1], "adapt": COLOURS[2], "finetune": COLOURS[3]}


def lineage(evidence: Evidence, name: str, caption: str) -> Figure:
    """The graph, from left to right; a box leads to its stage's row in the table."""
    boxes: list[dict[str, Any]] = []
    edges: list[dict[str, Any]] = []
    places: dict[str, tuple[int, int]] = {}
    below = 0
    for stage in evidence.graph:
        if stage.evaluation is not None:
            continue
        parent = evidence.graph.parent(stage)
        depth = len(evidence.graph.ancestors(stage))
        if parent is not None and parent.fingerprint not in {edge["from"] for edge in edges}:
            row = places[parent.fingerprint][1]  # the first child goes on in its parent's row
        else:
            row, below = below, below + 1
        places[stage.fingerprint] = (depth, row)
        pair, _, tokens = stage.legs[-1]
        several = len(evidence.study.seeds) > 1 or len(evidence.study.sizes) > 1
        about = f" {stage.size}/{stage.seed}" if several else ""
        done = evidence.store.is_done(stage)
        boxes.append(
            {
                "x": depth * _COLUMN, "x2": depth * _COLUMN + _WIDE,
                "y": row * _ROW, "y2": row * _ROW + _HIGH,
                "middle": depth * _COLUMN + _WIDE / 2, "centre": row * _ROW + _HIGH / 2,
                "text": f"{pair} ({counted(tokens)}){about}",
                "kind": stage.kind,
                "done": done,
                "told": f"{stage.label}: {stage.kind}, {'done' if done else 'not done'}",
                "href": f"#{anchor(stage)}",
            }
        )  # fmt: skip
        if parent is not None:
            before, above = places[parent.fingerprint]
            edges.append(
                {
                    "from": parent.fingerprint,
                    "x": before * _COLUMN + _WIDE, "y": above * _ROW + _HIGH / 2,
                    "x2": depth * _COLUMN, "y2": row * _ROW + _HIGH / 2,
                }
            )  # fmt: skip
    wide = max(box["x2"] for box in boxes)
    high = max(box["y2"] for box in boxes)
    return Figure(name, caption, rendered(_chart(boxes, edges, wide, high), name))


def _chart(boxes: list[dict], edges: list[dict], wide: float, high: float) -> alt.LayerChart:
    def x(field: str) -> alt.X:
        return alt.X(f"{field}:Q", axis=None, scale=alt.Scale(domain=[0, wide]))

    def y(field: str) -> alt.Y:
        return alt.Y(f"{field}:Q", axis=None, scale=alt.Scale(domain=[high, 0]))

    base = alt.Chart(alt.Data(values=boxes), width=wide, height=high)
    names = base.mark_text(fontSize=12).encode(
        x=x("middle"), y=y("centre"), text="text:N", href="href:N", description="told:N"
    )
    kinds = alt.Stroke(
        "kind:N",
        scale=alt.Scale(domain=list(_KINDS), range=list(_KINDS.values())),
        legend=alt.Legend(orient="bottom", title=None),
    )
    frames = [
        alt.Chart(alt.Data(values=[box for box in boxes if box["done"] == done]))
        .mark_rect(fill="#ffffff", strokeWidth=2, strokeDash=dash, cornerRadius=5)
        .encode(
            x=x("x"), x2="x2:Q", y=y("y"), y2="y2:Q", stroke=kinds,
            href="href:N", description="told:N",
        )
        for done, dash in ((True, [1, 0]), (False, [4, 3]))
    ]  # fmt: skip
    if not edges:
        return alt.layer(*frames, names)
    arrows = alt.Chart(alt.Data(values=edges)).mark_rule(color="#555555", size=1.5)
    lines = arrows.encode(x=x("x"), x2="x2:Q", y=y("y"), y2="y2:Q")
    heads = (
        alt.Chart(alt.Data(values=edges))
        .mark_point(shape="triangle-right", filled=True, color="#555555", size=60, opacity=1)
        .encode(x=x("x2"), y=y("y2"))
    )
    return alt.layer(lines, heads, *frames, names)

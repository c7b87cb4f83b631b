"""The report's figures, by Vega-Altair, rendered to SVG by vl-convert: no browser, no network.

Series differ by shape and by dash beside colour (Okabe and Ito's, which eyes blind to a colour tell
apart), so that they are read in black and white as well. What a mark's `description` says is shown
when a pointer rests on it, and read by screen readers.
"""

import dataclasses
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from typing import Any

import altair as alt
import vl_convert

from archobj_jax.study.report.comparing import Ranking
from archobj_jax.study.report.evidence import Evidence
from archobj_jax.study.report.paper import Agreement
from archobj_jax.study.report.speed_ups import SpeedUp
from archobj_jax.training.lineage import counted

COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7F7F7F")
DASHES = ([1, 0], [6, 2], [2, 2], [8, 2, 2, 2], [12, 3], [1, 3], [4, 4], [10, 2, 1, 2])
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down",
          "triangle-left", "triangle-right")  # fmt: skip

_SVG = "http://www.w3.org/2000/svg"
_WIDTH = 460
_SHORT = 24
"""Letters of a chain's name."""


@dataclasses.dataclass(frozen=True)
class Figure:
    """A figure.

    Attributes:
      name: of its SVG file.
      caption: what it shows.
      svg: the picture.
    """

    name: str
    caption: str
    svg: str


def averages(rankings: Sequence[Ranking], name: str, caption: str) -> Figure:
    """Averages with their intervals, and chance; a panel for each evaluation."""
    panels = []
    for ranking in rankings:
        values = []
        for each in ranking.scored:
            chain, value = each.chain.name, each.average.value
            low, high = each.average.interval
            told = f"{chain}: {value:.1f} % [{low:.1f}, {high:.1f}]"
            values.append(
                {"chain": chain, "average": value, "low": low, "high": high, "told": told}
            )
        title = f"{ranking.title}, accuracy in percent"
        order = [value["chain"] for value in values]
        base = alt.Chart(alt.Data(values=values), width=_WIDTH, height=alt.Step(26))
        y = alt.Y("chain:N", sort=order, title=None, axis=alt.Axis(labelLimit=330))
        scale = alt.Scale(zero=False)
        bars = base.mark_rule(size=2).encode(
            x=alt.X("low:Q", title=title, scale=scale), x2="high:Q", y=y, description="told:N"
        )
        points = base.mark_point(filled=True, size=90, color=COLOURS[1], opacity=1).encode(
            x="average:Q", y=y, description="told:N"
        )
        layers = [bars, points]
        if (chance := ranking.best.average.chance) is not None:
            layers.append(_chance(chance))
        panels.append(alt.layer(*layers))
    return Figure(name, caption, rendered(alt.vconcat(*panels), name))


def data_sets(ranking: Ranking, name: str, caption: str) -> Figure:
    """Each data set: the figure of each chain, and of each of its prompts."""
    marks = list(_marks(ranking))
    chances = {
        group: score.chance
        for each in ranking.scored
        for group, score in each.groups.items()
        if score.chance is not None
    }
    ends = [*(mark["accuracy"] for mark in marks), *chances.values()]
    domain = [max(0.0, min(ends) - 2), min(100.0, max(ends) + 2)]
    points = _points([each.chain.name for each in ranking.scored], domain)
    panels = []
    for group in dict.fromkeys(mark["set"] for mark in marks):
        data = alt.Data(values=[mark for mark in marks if mark["set"] == group])
        layers = [points.properties(data=data)]
        layers += [_chance(chances[group])] if group in chances else []
        panels.append(alt.layer(*layers).properties(title=group))
    longest = max(len(each.chain.name) for each in ranking.scored)
    columns = 2 if longest <= _SHORT else 1  # that two stand side by side on the page
    return Figure(name, caption, rendered(alt.concat(*panels, columns=columns), name))


def _marks(ranking: Ranking) -> Iterator[dict[str, Any]]:
    """What stands in the panels of data sets."""
    for each in ranking.scored:
        for group, score in each.groups.items():
            about: dict[str, Any] = {"chain": each.chain.name, "set": group}
            told = f"{each.chain.name}, {group}"
            yield about | {
                "accuracy": score.value,
                "what": "data set",
                "told": f"{told}: {score.value:.1f} %",
            }
            for prompt, value in each.prompts[group].items():
                text = f"{told}, {prompt}: {value:.1f} %"
                yield about | {"accuracy": value, "what": "a prompt", "told": text}


def _points(order: Sequence[str], domain: Sequence[float]) -> alt.Chart:
    """Marks of a panel of a data set, without their data."""
    kinds = ["data set", "a prompt"]

    def scale(values: Sequence[Any]) -> alt.Scale:
        return alt.Scale(domain=kinds, range=list(values))

    axis = alt.Axis(labelLimit=330)
    return (
        alt.Chart(width=230, height=alt.Step(22))
        .mark_point(opacity=1)
        .encode(
            x=alt.X("accuracy:Q", title="accuracy in percent", scale=alt.Scale(domain=domain)),
            y=alt.Y("chain:N", sort=list(order), title=None, axis=axis),
            shape=alt.Shape("what:N", scale=scale(["diamond", "stroke"]), title=None),
            size=alt.Size("what:N", scale=scale([110, 60]), legend=None),
            color=alt.Color("what:N", scale=scale(COLOURS[1::-1]), title=None),
            description="told:N",
        )
    )


def curves(evidence: Evidence, found: Sequence[SpeedUp], name: str, caption: str) -> Figure:
    """Held-out loss by tokens of the stage: adapted, and from scratch."""
    panels = []
    for each in found:
        values: list[dict[str, Any]] = [
            {
                "run": f"{what}: {chain.name}",
                "seed": f"{seed}",
                "tokens": tokens,
                "loss": loss,
                "told": f"{chain.name}, seed {seed}: {counted(tokens)} tokens, loss {loss:.3f}",
            }
            for what, chain in (("from scratch", each.scratch), ("adapted", each.adapted))
            for seed, stage in sorted(chain.stages.items())
            for tokens, loss in evidence.curve_of_pair(stage)
        ]
        runs = list(dict.fromkeys(value["run"] for value in values))
        chart = (
            alt.Chart(alt.Data(values=values), width=_WIDTH + 140, height=280)
            .mark_line(point=alt.OverlayMarkDef(size=35, filled=True))
            .encode(
                x=alt.X(
                    "tokens:Q",
                    title="tokens, of the adaptation or from scratch",
                    axis=alt.Axis(format="~s", tickCount=8),
                ),
                y=alt.Y(
                    "loss:Q",
                    title="held-out loss, nats a token",
                    scale=alt.Scale(zero=False, nice=False),
                ),
                color=_series("run", runs, COLOURS[1:3]),
                strokeDash=_series("run", runs, DASHES),
                shape=_series("run", runs, SHAPES),
                detail="seed:N",
                description="told:N",
            )
        )
        panels.append(chart)
    return Figure(name, caption, rendered(alt.vconcat(*panels), name))


def agreement(found: Sequence[Agreement], name: str, caption: str) -> Figure:
    """Our figures against the paper's."""
    panels = []
    for each in found:
        values: list[dict[str, Any]] = []
        for chain, paper, ours in zip(each.names, each.paper, each.ours, strict=True):
            low, high = ours.interval
            told = f"{chain}: paper {paper:.1f} %, ours {ours.value:.1f} % [{low:.1f}, {high:.1f}]"
            values.append(
                {"chain": chain, "paper": paper, "ours": ours.value, "low": low, "high": high,
                 "told": told}
            )  # fmt: skip
        names = [value["chain"] for value in values]
        base = alt.Chart(alt.Data(values=values), width=_WIDTH - 60, height=240)
        x = alt.X("paper:Q", title=f"the paper, {each.average} average", scale=_loose())
        bars = base.mark_rule().encode(
            x=x, y=alt.Y("low:Q", title="ours", scale=_loose()), y2="high:Q", description="told:N"
        )
        points = base.mark_point(size=90, filled=True, opacity=1).encode(
            x=x,
            y="ours:Q",
            color=_series("chain", names, COLOURS),
            shape=_series("chain", names, SHAPES),
            description="told:N",
        )
        panels.append(alt.layer(bars, points).properties(title=each.when))
    shared = alt.vconcat(*panels).resolve_scale(color="independent", shape="independent")
    return Figure(name, caption, rendered(shared, name))


def _loose() -> alt.Scale:
    return alt.Scale(zero=False, padding=12)


def _series(field: str, names: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    """An encoding of `field` by `values`, in turn."""
    chosen = [values[index % len(values)] for index in range(len(names))]
    legend = {"orient": "bottom", "direction": "vertical", "labelLimit": 500, "title": None}
    return {
        "field": field,
        "type": "nominal",
        "scale": {"domain": list(names), "range": chosen},
        "legend": legend,
    }


def _chance(value: float) -> alt.Chart:
    return (
        alt.Chart(alt.Data(values=[{"chance": value, "told": f"chance: {value:.1f} %"}]))
        .mark_rule(strokeDash=[4, 3], size=2, color=COLOURS[7])
        .encode(x="chance:Q", description="told:N")
    )


def rendered(chart: Any, name: str) -> str:
    """The chart as SVG, whose marks have titles and whose ids no other figure has."""
    # Readers' fonts may be wider than the one that labels are measured in.
    styled = chart.properties(
        padding={"left": 32, "right": 32, "top": 5, "bottom": 5},
        background="transparent",  # the page's shadows, where there is more to scroll to, show
    )
    styled = styled.configure_view(stroke=None).configure_axis(
        labelFontSize=12, titleFontSize=12, titleFontWeight="normal", gridColor="#e4e4e4"
    ).configure_legend(labelFontSize=12).configure_title(fontSize=13, anchor="start")  # fmt: skip
    return titled(vl_convert.vegalite_to_svg(styled.to_json()), name)


def titled(svg: str, name: str) -> str:
    """SVG of Vega's with the marks' labels as titles, which browsers show, and its own ids."""
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ElementTree.fromstring(svg)
    for element in root.iter():
        if element.get("role") == "graphics-symbol" and "mark" not in element.get("class", ""):
            label = element.get("aria-label")
            if label and element.get("aria-roledescription") not in ("axis", "legend", "title"):
                title = ElementTree.Element(f"{{{_SVG}}}title")
                title.text = label
                element.insert(0, title)
                element.set("tabindex", "-1")
        for attribute, value in list(element.attrib.items()):
            if attribute == "id":
                element.set("id", f"{name}-{value}")
            elif attribute.endswith("href"):  # Vega puts an address before links within the page
                element.set(attribute, f"#{value.rpartition('#')[2]}")
            elif "url(#" in value:
                element.set(attribute, value.replace("url(#", f"url(#{name}-"))
    return ElementTree.tostring(root, encoding="unicode") + "\n"

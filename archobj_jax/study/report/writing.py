"""Writes the report: one HTML page that needs nothing else, the same in Markdown, SVGs, CSVs."""

from collections.abc import Mapping, Sequence
from importlib import resources

import jinja2
from etils import epath

from archobj_jax.errors import UserError
from archobj_jax.study.design import Study
from archobj_jax.study.graph import Graph
from archobj_jax.study.report.evidence import Evidence
from archobj_jax.study.report.sections import Section, sections
from archobj_jax.study.report.tables import Link, Tokens
from archobj_jax.study.store import Store
from archobj_jax.training.reporting import write_text

_ENDINGS = (".html", ".md", ".svg", ".csv")
"""Of the report's files; others in its folder are none of ours."""


def write_report(study: Study, graph: Graph, store: Store) -> str:
    """Writes STORE/studies/<name>/report; returns the answer, and where it is, in words.

    Files of an earlier report that this one has not are removed.

    Raises:
      UserError: no training stage is done.
      MachineError: it cannot be written.
    """
    evidence = Evidence(study, graph, store)
    if not evidence.chains:
        raise UserError(f"no stage of {study.name} is done, so there is nothing to report.")
    made = sections(evidence)
    folder = epath.Path(store.study_folder(study.name)) / "report"
    written = files(study.name, made)
    for name, content in written.items():
        write_text(folder / name, content)
    for path in list(folder.iterdir()):
        if path.name not in written and path.suffix in _ENDINGS and not path.is_dir():
            path.unlink()
    return "\n".join(
        ["", *made[0].text, "", f"report: {folder}/index.html (report.md, CSVs, SVGs)"]
    )


def files(name: str, made: Sequence[Section]) -> Mapping[str, str]:
    """The files of the report by name."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.tests["link"] = lambda cell: isinstance(cell, Link)
    environment.tests["tokens"] = lambda cell: isinstance(cell, Tokens)
    template = resources.files(__package__).joinpath("page.html.jinja").read_text("utf-8")
    found = {"index.html": environment.from_string(template).render(name=name, sections=made)}
    found["report.md"] = _markdown(name, made)
    for section in made:
        found |= {f"{figure.name}.svg": figure.svg for figure in section.figures}
        found |= {f"{table.name}.csv": table.csv() for table in (*section.tables, *section.folded)}
    return found


def _markdown(name: str, made: Sequence[Section]) -> str:
    parts = [f"# The study {name}"]
    for section in made:
        parts += [f"## {section.title}", *section.text]
        parts += [f"![{each.caption}]({each.name}.svg)" for each in section.figures]
        for table in section.tables:
            parts += [f"**{table.title}** ([CSV]({table.name}.csv))", table.markdown()]
            parts += [table.note] if table.note else []
        parts += [f"[{table.title} (CSV)]({table.name}.csv)" for table in section.folded]
    return "\n\n".join(parts) + "\n"

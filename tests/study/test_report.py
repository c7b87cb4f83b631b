"""The report's files: page, Markdown, figures and tables."""

import csv
import io
import xml.etree.ElementTree as ElementTree

import pytest

from archobj_jax.errors import UserError
from archobj_jax.study.store import Store
from tests.study.synthetic import evidence, graph, study


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    from archobj_jax.study.report import sections, writing

    folder = tmp_path_factory.mktemp("report")
    return writing.files("synthetic", sections.sections(evidence(folder, seeds=(0, 1))))


class TestFiles:
    """Those of a whole report."""

    def test_there_is_a_page_markdown_and_each_table_and_figure(self, made):
        assert {"index.html", "report.md"} <= set(made)
        tables = {name for name in made if name.endswith(".csv")}
        assert {"stages.csv", "cost.csv", "commands.csv", "speed_up.csv", "paper.csv"} <= tables
        assert {"pretraining_held_out.csv", "finetuning_held_out_prompts.csv"} <= tables
        figures = {name for name in made if name.endswith(".svg")}
        assert {"lineage.svg", "adaptation.svg", "finetuning.svg", "agreement.svg"} <= figures

    def test_the_page_asks_nothing_of_the_network(self, made):
        page = made["index.html"]
        for remote in ('src="http', "url(http", "@import", "<script src", 'href="http'):
            assert remote not in page

    def test_cells_of_tokens_carry_their_number_for_sorting(self, made):
        assert '<td data-value="3000">3K</td>' in made["index.html"]
        assert '<td data-value="100.0">100</td>' in made["index.html"]  # of the speed-up
        assert next(csv.DictReader(io.StringIO(made["stages.csv"])))["tokens"] == "3000"

    def test_markdown_says_what_the_page_says(self, made):
        for text in ("After MTF, ND:MLM", "in 30.0 times fewer tokens", "Kendall"):
            assert text in made["report.md"]
            assert text in made["index.html"].replace("&#39;", "'")

    def test_what_holds_times_is_in_the_table_of_cost_alone(self, made, tmp_path):
        from archobj_jax.study.report import sections, writing

        again = evidence(tmp_path, seeds=(0, 1))
        for stage in again.graph:
            path = again.store.path(stage, "metrics.jsonl")
            if path.exists():
                path.write_text(path.read_text().replace('second": 50.0', 'second": 51.0'))
                path.write_text(path.read_text().replace('step": 2.0', 'step": 2.5'))
        other = writing.files("synthetic", sections.sections(again))
        tables = {name for name in made if name.endswith(".csv")}
        differ = {name for name in tables if made[name] != other[name]}
        assert differ == {"cost.csv", "commands.csv"}  # the latter has the store's folder

    def test_tables_are_csv_with_the_figures(self, made):
        rows = list(csv.DictReader(io.StringIO(made["finetuning_held_out.csv"])))
        assert [row["chain"] for row in rows] == [
            "CD:FLM (3K) → CD:MTF (1K)",
            "ND:MLM (3K) → ND:MTF (1K)",
            "CD:FLM (3K) → ND:MLM (1K) → ND:MTF (1K)",
        ]
        assert [row["against best"] for row in rows] == ["worse", "highest", "worse"]
        assert [row["from chance"] for row in rows] == ["not told apart", "above", "above"]
        assert rows[1]["average"] == "90.0"

    def test_marks_of_figures_have_titles_and_no_two_figures_share_an_id(self, made):
        seen: set[str] = set()
        for name in (name for name in made if name.endswith(".svg")):
            root = ElementTree.fromstring(made[name])
            titles = [e.text for e in root.iter("{http://www.w3.org/2000/svg}title")]
            assert titles, name
            ids = {e.get("id") for e in root.iter()} - {None}
            assert not ids & seen
            seen |= ids
        assert any("ND:MLM (3K) → ND:MTF (1K): 90.0 %" in t for t in _titles(made, "finetuning"))


def _titles(made, name):
    root = ElementTree.fromstring(made[f"{name}.svg"])
    return [e.text or "" for e in root.iter("{http://www.w3.org/2000/svg}title")]


def test_without_a_stage_done_there_is_nothing_to_report(tmp_path):
    from archobj_jax.study.report import writing

    of = study()
    with pytest.raises(UserError, match="nothing to report"):
        writing.write_report(of, graph(of), Store(str(tmp_path)))

"""What the report claims of stages whose figures are known."""

import csv
import dataclasses
import functools
import io
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from archobj_jax.errors import UserError
from archobj_jax.evaluation import results
from archobj_jax.study.report import answer, score_tables, speed_ups, stage_tables
from archobj_jax.study.report.comparing import alike, rankings
from archobj_jax.study.report.evidence import Evidence
from archobj_jax.study.report.scores import Score, difference, over_seeds
from archobj_jax.study.store import Store
from tests.study import synthetic
from tests.study.synthetic import CHAINS, graph, score, study, write_outputs

ACCURACY = {"CD:FLM → CD:MTF": 0.5, "ND:MLM → ND:MTF": 0.9}


def evidence(folder, *, seeds=(0,), accuracy=ACCURACY, chains=CHAINS):
    of = study(seeds=seeds, chains=chains)
    made = Evidence(of, graph(of), Store(str(folder)))
    for stage in made.graph:
        write_outputs(stage, Path(made.store.folder(stage)), accuracy.get(stage.pairs, 0.6))
    return made


def test_of_one_seed_the_interval_is_the_bootstraps():
    draws = np.linspace(0, 100, 1001)[None]
    assert over_seeds([50.0], draws) == pytest.approx((2.5, 97.5))


def test_of_several_seeds_without_noise_of_examples_it_is_students():
    values = [50.0, 52.0, 57.0]
    low, high = over_seeds(values, np.tile(np.array(values)[:, None], 10))
    expected = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert (low, high) == pytest.approx(expected)


def test_of_seeds_that_are_alike_it_is_that_of_the_examples():
    rng = np.random.default_rng(0)
    draws = rng.normal(50, 2, size=(1, 20_000))
    low, high = over_seeds([50.0, 50.0], np.concatenate([draws, draws]))
    assert (low, high) == pytest.approx((50 - 1.96 * 2, 50 + 1.96 * 2), abs=0.1)


def test_an_interval_covers_the_truth_as_often_as_it_says():
    """Three seeds and examples that all share, both drawn from known normals: 95% within 1.5."""
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(1000):
        examples = rng.normal(0, 1)
        values = examples + rng.normal(0, 1, size=3)
        low, high = over_seeds(list(values), values[:, None] + rng.normal(0, 1, size=(1, 400)))
        covered += low <= 0 <= high
    assert covered / 1000 == pytest.approx(0.95, abs=0.025)


def test_a_difference_inside_its_interval_is_never_better():
    wide, narrow = [[40, 60] * 50], [[54.9, 55.1] * 50]
    assert difference(score([55], narrow), score([50], [[50] * 100])).verdict == "higher"
    assert difference(score([50], wide), score([49], [[49] * 100])).verdict == "not told apart"
    assert difference(score([50], [[50] * 100]), score([55], narrow)).verdict == "lower"


def test_a_difference_is_of_the_seeds_that_both_have():
    a = Score({0: 50.0, 1: 60.0}, np.array([[50.0] * 4, [60.0] * 4]))
    b = Score({1: 55.0, 2: 10.0}, np.array([[55.0] * 4, [10.0] * 4]))
    found = difference(a, b)
    assert (found.value, found.seeds) == (5.0, 1)
    assert difference(a, b.of([2])) is None


def test_averages_are_those_of_the_results_files(tmp_path):
    made = evidence(tmp_path)
    (ranking,) = rankings(made, "finetune")
    for each in ranking.scored:
        (result,) = made.evaluated(each.chain, ranking.evaluation).values()
        metric = result.suite.metrics["accuracy"]
        assert each.average.value == pytest.approx(metric.value)
        assert each.average.interval == pytest.approx(metric.interval)
        assert each.average.chance == result.suite.chance == 50.0
        for name, group in each.groups.items():
            assert group.value == pytest.approx(result.groups[name].metrics["accuracy"].value)
            assert group.interval == pytest.approx(result.groups[name].metrics["accuracy"].interval)


def test_the_best_is_told_apart_only_where_the_interval_says_so(tmp_path):
    (ranking,) = rankings(evidence(tmp_path / "far"), "finetune")
    assert ranking.best.chain.pairs == "ND:MLM → ND:MTF"
    assert ranking.not_told_apart() == []
    alike = {"CD:FLM → CD:MTF": 0.7, "ND:MLM → ND:MTF": 0.72}
    alike["CD:FLM → ND:MLM → ND:MTF"] = 0.71
    (ranking,) = rankings(evidence(tmp_path / "near", accuracy=alike), "finetune")
    assert [each.chain.pairs for each in ranking.not_told_apart()] == [
        "CD:FLM → CD:MTF", "CD:FLM → ND:MLM → ND:MTF",
    ]  # fmt: skip


def test_pretraining_is_ranked_among_what_had_the_same_budget(tmp_path):
    chains = ("CD:FLM 30 steps → CD:FLM 10 steps", "ND:MLM 30 steps")
    found = rankings(evidence(tmp_path, chains=chains), "pretrain")
    assert [[each.chain.name for each in ranking.scored] for ranking in found] == [
        ["CD:FLM (3K)", "ND:MLM (3K)"], ["CD:FLM (4K)"],
    ]  # fmt: skip


def test_pretraining_of_as_many_tokens_is_ranked_together_however_it_is_written(tmp_path):
    (ranking,) = rankings(evidence(tmp_path, chains=("CD:FLM 3K", "ND:MLM 30 steps")), "pretrain")
    assert len(ranking.scored) == 2


def test_a_data_set_without_accuracy_is_in_no_average_and_told(tmp_path):
    made = evidence(tmp_path)
    for stage in made.graph:
        if stage.evaluation is not None:
            path = made.store.path(stage, "held_out.json")
            found = results.read(str(path))
            second = found.groups["second"]
            loss = {"loss": dataclasses.replace(second.metrics["accuracy"], value=3.0)}
            groups = {**found.groups, "second": dataclasses.replace(second, metrics=loss)}
            dataclasses.replace(found, groups=groups).write(str(path))
    (ranking,) = rankings(made, "finetune")
    assert set(ranking.best.groups) == set(ranking.best.prompts) == {"first"}
    table = score_tables.averages(ranking, "name", "title")
    assert "Not in it, for want of accuracy: second." in table.note


def test_of_a_handful_of_examples_nothing_is_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic, "made", functools.partial(synthetic.made, examples=5))
    (ranking,) = rankings(made := evidence(tmp_path), "finetune")
    assert ranking.best.examples == {"first": 5, "second": 5}
    assert {ranking.against_best(each) for each in ranking.scored} == {
        "highest", "too few examples",
    }  # fmt: skip
    sentence = answer.answer(made, [], [ranking], [])[1]
    assert "(5 examples of each data set)" in sentence
    assert "there are too few examples" in sentence


def test_a_best_of_one_seed_in_common_is_told_with_what_its_interval_leaves_out(tmp_path):
    made = evidence(tmp_path, seeds=(0, 1))
    (ranking,) = rankings(made, "finetune")
    assert ranking.fewest_seeds == 2
    others = [
        each if each is ranking.best
        else dataclasses.replace(each, average=each.average.of([0]))
        for each in ranking.scored
    ]  # fmt: skip
    fewer = dataclasses.replace(ranking, scored=others)
    assert "one seed" not in answer.answer(made, [], [ranking], [])[1]
    assert "(one seed: the intervals" in answer.answer(made, [], [fewer], [])[1]


def test_finetuning_on_other_numbers_of_tokens_is_told(tmp_path):
    chains = ("CD:FLM 30 steps → CD:MTF 10 steps", "ND:MLM 30 steps → ND:MTF 20 steps")
    made = evidence(tmp_path, chains=chains)
    sentence = answer.answer(made, [], rankings(made, "finetune"), [])[1]
    assert sentence.endswith("; not all were finetuned on as many tokens.")


def test_what_is_not_done_is_told_before_the_answer(tmp_path):
    made = evidence(tmp_path)
    last = list(made.graph)[-1]
    made.store.path(last, "held_out.json").unlink()
    sentences = answer.answer(made, [], [], [])
    assert sentences[0].startswith("Only 11 of the 12 stages are done")
    assert last.label in sentences[0]
    assert len(sentences) == 4


def test_what_was_not_asked_is_not_answered(tmp_path):
    made = evidence(tmp_path, chains=("CD:FLM 30 steps",))
    assert "MTF" not in answer.question(made)
    assert answer.question(made).startswith("How good is CD:FLM zero-shot")
    assert len(answer.answer(made, rankings(made, "pretrain"), [], [])) == 1


@pytest.mark.parametrize(
    ("chains", "names"),
    [
        (
            ("CD:FLM 20 steps → CD:FLM 20 steps", "CD:FLM 40 steps"),
            ["CD:FLM (2K)", "CD:FLM (2K + 2K)", "CD:FLM (4K)"],
        ),
        (
            ("CD:FLM 10000 steps", "CD:FLM 10001 steps"),
            ["CD:FLM (10000 steps)", "CD:FLM (10001 steps)"],
        ),
    ],
)
def test_chains_whose_notation_is_the_same_are_each_there_under_a_name_of_their_own(
    tmp_path, chains, names
):
    of = study(seeds=(0, 1), chains=chains)
    made = Evidence(of, graph(of), Store(str(tmp_path)))
    for stage in made.graph:
        made.store.path(stage, "").mkdir(parents=True)
        made.store.path(stage, "done.json").write_text("{}")
    assert [chain.name for chain in made.chains] == names
    for chain in made.chains:
        assert set(chain.stages) == {0, 1}
        assert len({stage.legs for stage in chain.stages.values()}) == 1


def test_the_speed_up_is_that_of_the_curves(tmp_path):
    """From scratch 8 - 0.1 a step ends at 5 after 30; adapted 4 - 0.2 a step is there at once."""
    (found,) = speed_ups.speed_ups(evidence(tmp_path))
    assert found.reached == {0: (3000.0, 100.0)}
    assert found.ratio == pytest.approx(30)
    assert found.interval is None


def test_noise_of_the_losses_makes_no_speed_up_of_a_run_beside_another_like_it():
    """Geometric mean over pairs of runs that differ by noise alone, where both reach the loss."""
    rng = np.random.default_rng(0)
    ratios = []
    for _ in range(300):
        theirs, ours = (
            [(n, 3 + 2 * np.exp(-n / 10) + rng.normal(0, 0.02)) for n in range(1, 31)]
            for _ in range(2)
        )
        loss = theirs[-1][1]
        needed = speed_ups.tokens_to_reach(ours, loss)
        if needed is not None:
            ratios.append(speed_ups.tokens_to_reach(theirs, loss) / needed)
    assert len(ratios) > 100
    assert np.exp(np.mean(np.log(ratios))) == pytest.approx(1.0, abs=0.1)


def test_an_adaptation_stands_beside_what_had_as_many_tokens_as_it_began_with(tmp_path):
    chains = (
        "ND:MLM 15 steps → ND:MLM 15 steps → ND:MLM 10 steps",
        "CD:FLM 30 steps → ND:MLM 10 steps",
    )
    (found,) = speed_ups.speed_ups(evidence(tmp_path, chains=chains))
    assert found.scratch.name == "ND:MLM (3K)"


def test_adapted_models_are_ranked_beside_the_same_pair_from_scratch(tmp_path):
    (ranking,) = rankings(evidence(tmp_path), "adapt")
    assert [each.chain.pairs for each in ranking.scored] == ["CD:FLM → ND:MLM", "ND:MLM"]


def test_the_speed_up_of_an_adaptation_in_two_legs_is_over_both(tmp_path):
    chains = ("ND:MLM 50 steps", "CD:FLM 30 steps → ND:MLM 4 steps → ND:MLM 10 steps")
    made = evidence(tmp_path, chains=chains)
    _, found = speed_ups.speed_ups(made)
    assert found.adapted.any.total_steps == 44
    # From scratch 8 - 5 = 3; the legs are at 3.2 after 400 tokens, and at 3.0 after 400 + 500.
    assert found.reached == {0: (5000.0, pytest.approx(900.0))}


@pytest.mark.parametrize("pairs", ["ND:MLM", "CD:FLM → ND:MLM"])
def test_without_the_loss_after_the_last_step_no_earlier_one_is_taken(tmp_path, pairs):
    made = evidence(tmp_path, seeds=(0, 1))
    stage = next(each for each in made.graph if (each.pairs, each.seed) == (pairs, 1))
    assert made.last_loss(stage) == pytest.approx(5.0 if pairs == "ND:MLM" else 2.0)
    made.store.finish(stage)
    path = made.store.path(stage, "metrics.jsonl")
    path.write_text("\n".join(path.read_text().splitlines()[:-1]))
    assert made.curve(stage)
    assert made.last_loss(stage) is None
    (found,) = speed_ups.speed_ups(made)
    assert set(found.reached) == {0}
    assert (found.ratio, found.interval) == (None, None)
    name = made.name(stage)
    assert (
        f"{name}, seed 1, has no held-out loss after its last step"
        in answer.answer(made, [], [], [found])[-1]
    )
    column = {"ND:MLM": 3, "CD:FLM → ND:MLM": 4}[pairs]
    assert score_tables.speed_ups([found]).rows[1][column] == "no last loss"
    row = next(row for row in stage_tables.stages(made).rows if stage.fingerprint[:10] in row)
    assert row[11] == ""


def test_where_nothing_was_held_out_it_is_told_and_no_curve_is_drawn(tmp_path):
    from archobj_jax.study.report import sections

    made = evidence(tmp_path)
    for stage in made.graph:
        if stage.evaluation is None:
            path = made.store.path(stage, "metrics.jsonl")
            lines = path.read_text().splitlines()
            path.write_text("\n".join(line for line in lines if "eval/" not in line))
            made.store.finish(stage)
    found = list(speed_ups.speed_ups(made))
    section = sections._adaptation(made, found, [])
    assert section.figures == []
    assert "has no held-out loss" in answer.answer(made, [], [], found)[-1]


def test_the_tokens_to_reach_a_loss_lie_on_a_straight_line():
    curve = [(0.0, 5.0), (10.0, 3.0), (20.0, 3.5), (30.0, 1.0)]
    assert speed_ups.tokens_to_reach(curve, 4.0) == 5.0
    assert speed_ups.tokens_to_reach(curve, 2.0) == pytest.approx(26.0)
    assert speed_ups.tokens_to_reach(curve, 6.0) == 0.0
    assert speed_ups.tokens_to_reach(curve, 0.5) is None


def test_the_curve_from_scratch_goes_on_over_the_stages_of_one_pretraining(tmp_path):
    made = evidence(tmp_path, chains=("CD:FLM 30 steps → CD:FLM 10 steps",))
    last = next(stage for stage in made.graph if stage.total_steps == 40)
    tokens = [point[0] for point in made.curve_of_pair(last)]
    assert tokens == [100.0 * step for step in range(1, 41)]


def test_scores_of_prompts_are_the_mean_over_seeds(tmp_path):
    made = evidence(tmp_path, seeds=(0, 1))
    (ranking,) = rankings(made, "finetune")
    best = ranking.best
    assert list(best.average.values) == [0, 1]
    assert best.prompts["first"]["first_plain"] == pytest.approx(90.0)
    assert set(best.prompts) == {"first", "second"}


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


def test_the_question_says_how_budgets_were_matched(tmp_path):
    made = evidence(tmp_path / "alike")
    assert "all pairs are pretrained on as many tokens" in answer.question(made)
    assert "(the paper's way) and with as many FLOPs" in answer.question(made)
    for number, chains in enumerate(
        [
            ("CD:FLM 30 steps", "ND:MLM 20 steps"),
            ("CD:FLM 30 steps → CD:FLM 30 steps", "ND:MLM 30 steps → ND:MLM 10 steps"),
        ]
    ):
        other = evidence(tmp_path / f"unlike{number}", chains=chains)
        assert "on different numbers of tokens" in answer.question(other)
    marks = ("CD:FLM 30 steps → CD:FLM 30 steps", "ND:MLM 30 steps → ND:MLM 30 steps")
    assert "on as many tokens" in answer.question(evidence(tmp_path / "marks", chains=marks))


def test_budgets_are_alike_within_what_whole_steps_allow():
    assert alike([100.0, 101.0])
    assert not alike([100.0, 102.0])
    assert alike([2.951e11, 3.021e11], step=1.28e10)
    assert not alike([2.8e11, 3.021e11], step=1.28e10)


def test_of_one_seed_every_sentence_says_what_its_interval_leaves_out(tmp_path):
    made = evidence(tmp_path)
    sentences = answer.answer(
        made,
        rankings(made, "pretrain"),
        rankings(made, "finetune"),
        list(speed_ups.speed_ups(made)),
    )
    assert len(sentences) == 3
    assert all("one seed" in sentence for sentence in sentences)
    assert "is not told apart from any other" in sentences[0]
    assert "is best" in sentences[1]


@pytest.mark.parametrize(
    ("ratios", "told"),
    [
        ([3.0], "in 3.0 times fewer tokens, without the 3K that it began with (one seed"),
        ([0.5], "in 2.0 times as many tokens, without the 3K that it began with (one seed"),
        ([1.01], "in about as many tokens, without the 3K that it began with (one seed"),
        ([2.0, 2.1], "in 2.0 times fewer tokens [1.5, 2.8], without the 3K that it began with (2"),
        ([0.5, 0.5], "in 2.0 times as many tokens [2.0, 2.0], without the 3K that it began with"),
        ([3.0, 0.5], "not told apart from that from scratch: the speed-up is 1.2 [0.0, "),
    ],
)
def test_only_a_speed_up_above_1_is_called_a_saving(tmp_path, ratios, told):
    made = evidence(tmp_path)
    (found,) = speed_ups.speed_ups(made)
    reached = {seed: (ratio * 100.0, 100.0) for seed, ratio in enumerate(ratios)}
    *_, last = answer.answer(made, [], [], [dataclasses.replace(found, reached=reached)])
    assert told in last
    assert ("fewer" in last) == (min(ratios) > 1.5)


def test_an_adaptation_that_does_not_get_there_is_told_so(tmp_path):
    chains = ("ND:MLM 70 steps", "CD:FLM 30 steps → ND:MLM 10 steps")  # 8 - 7 = 1 against 4 - 2
    made = evidence(tmp_path, chains=chains)
    *_, last = answer.answer(made, [], [], list(speed_ups.speed_ups(made)))
    assert last == (
        "CD:FLM (3K) → ND:MLM (1K) did not reach the held-out loss of ND:MLM (7K) in 1 of 1 seeds."
    )

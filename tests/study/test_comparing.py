"""Which chains are ranked together, by which figures, and what is told apart."""

import dataclasses

import pytest

from archobj_jax.evaluation import results
from archobj_jax.study.report import score_tables
from archobj_jax.study.report.comparing import alike, rankings
from archobj_jax.study.report.evidence import Evidence
from archobj_jax.study.store import Store
from tests.study.synthetic import evidence, graph, study


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


def test_adapted_models_are_ranked_beside_the_same_pair_from_scratch(tmp_path):
    (ranking,) = rankings(evidence(tmp_path), "adapt")
    assert [each.chain.pairs for each in ranking.scored] == ["CD:FLM → ND:MLM", "ND:MLM"]


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


def test_scores_of_prompts_are_the_mean_over_seeds(tmp_path):
    made = evidence(tmp_path, seeds=(0, 1))
    (ranking,) = rankings(made, "finetune")
    best = ranking.best
    assert list(best.average.values) == [0, 1]
    assert best.prompts["first"]["first_plain"] == pytest.approx(90.0)
    assert set(best.prompts) == {"first", "second"}


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


def test_budgets_are_alike_within_what_whole_steps_allow():
    assert alike([100.0, 101.0])
    assert not alike([100.0, 102.0])
    assert alike([2.951e11, 3.021e11], step=1.28e10)
    assert not alike([2.8e11, 3.021e11], step=1.28e10)

"""The studies of t5x_configs/studies, expanded."""

from pathlib import Path

import pytest

from archobj_jax import config
from archobj_jax.study.design import Study
from archobj_jax.study.graph import expand

STUDIES = sorted(Path("t5x_configs/studies").glob("*.gin"))


def expanded(path):
    config.parse([str(path)], functions=[Study])
    return expand(config.call(Study))


def training(path):
    return [stage for stage in expanded(path) if stage.evaluation is None]


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_ready_study_expands_and_is_called_as_its_file(path):
    assert expanded(path).name == path.stem


def test_the_papers_study_has_the_papers_stages_in_its_notation():
    notations = [stage.notation for stage in training(Path("t5x_configs/studies/paper.gin"))]
    pairs = ("CD:FLM", "ND:PLM", "ED:PLM", "CD:MLM", "ND:MLM", "ED:MLM")
    assert set(notations) == {
        *(f"{pair} (84B)" for pair in pairs),
        *(f"{pair} (168B)" for pair in pairs),
        *(f"{pair} (168B) → {pair[:2]}:MTF (13.1B)" for pair in pairs),
        "CD:FLM (219B)",
        "CD:FLM (219B) → CD:MTF (13.1B)",
        "CD:FLM (219B) → ND:MTF (13.1B)",
        "CD:FLM (168B) → ND:MLM (51B)",
        "CD:FLM (168B) → ND:MLM (51B) → ND:MTF (13.1B)",
        "ND:MLM (168B) → CD:FLM (51B)",
    }
    assert len(notations) == 24


def test_the_papers_runs_have_its_steps_and_parameters():
    stages = {stage.notation: stage for stage in training(Path("t5x_configs/studies/paper.gin"))}
    assert stages["CD:FLM (168B)"].total_steps == 131_072
    finetuned = stages["ND:MLM (168B) → ND:MTF (13.1B)"]
    assert (finetuned.start_step, finetuned.total_steps) == (131_072, 141_072)
    assert stages["ND:MLM (168B)"].parameters == 4_762_357_760
    assert stages["ED:MLM (168B)"].parameters == 11_003_736_064


def test_pairs_of_the_papers_study_are_pretrained_on_as_many_tokens():
    stages = training(Path("t5x_configs/studies/paper.gin"))
    tokens = {stage.pretraining_tokens for stage in stages if stage.notation.endswith("(168B)")}
    assert tokens == {131_072 * 2048 * 626}

"""A study's axes."""

import re

import pytest

from archobj_jax.errors import UserError
from archobj_jax.study.design import Evaluation, Grid, Study


def test_a_grid_has_plm_where_full_language_modeling_has_no_inputs():
    pairs = [chain.split(" ")[0] for chain in Grid(budgets=("1B",)).chains()]
    assert pairs == ["CD:FLM", "ND:PLM", "ED:PLM", "CD:MLM", "ND:MLM", "ED:MLM"]


def test_budgets_of_a_grid_are_marks_on_one_run():
    grid = Grid(architectures=("CD",), objectives=("MLM",), budgets=("84B", "168B"), mtf="13B")
    (chain,) = grid.chains()
    assert chain == "CD:MLM 84000000000 tokens → CD:MLM 84000000000 tokens → CD:MTF 13B"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budgets": ()}, "Grid.budgets is empty"),
        ({"budgets": ("2B", "1B")}, "expected ascending marks"),
        ({"budgets": ("2B", "3 steps")}, "expected one unit"),
        ({"budgets": ("2B",), "architectures": ("XD",)}, "has 'XD'; expected CD, ND or ED"),
        ({"budgets": ("2B",), "objectives": ("FLM",)}, "expected LM or MLM"),
    ],
)
def test_a_mistake_in_a_grid_is_told(changes, message):
    with pytest.raises(UserError, match=message):
        list(Grid(**changes).chains())


def test_chains_of_grids_and_chains_given_are_each_there_once():
    study = Study(
        name="s",
        sizes=("tiny",),
        grids=(Grid(("CD",), ("LM",), ("1B",)),),
        chains=("CD:FLM 1B", "ND:MLM 1B"),
    )
    assert [legs[0].pair for legs in study.all_chains()] == ["CD:FLM", "ND:MLM"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "My study"}, "expected small letters"),
        ({"sizes": ()}, "Study.sizes"),
        ({"seeds": (1, 1)}, "none twice"),
        ({"chains": ()}, "has no grids and no chains"),
        ({"bindings": {"pretraining": ()}}, "Did you mean 'pretrain'"),
        ({"evaluations": (Evaluation("a", "f"), Evaluation("a", "g"))}, "the same name"),
        ({"evaluations": (Evaluation("T0 a", "f"), Evaluation("t0-a", "g"))}, "the same name"),
        ({"evaluations": (Evaluation("X", "f"), Evaluation("X data sets", "g"))}, "the same name"),
        ({"evaluations": (Evaluation("x_prompts", "f"), Evaluation("X", "g"))}, "the same name"),
        ({"bindings": ("A=1",)}, r"expected a dict .* such as \{'train': \('NAME=VALUE',\)\}"),
    ],
)
def test_a_mistake_in_a_study_is_told(changes, message):
    with pytest.raises(UserError, match=message):
        Study(**({"name": "s", "sizes": ("tiny",), "chains": ("CD:FLM 1B",)} | changes))


@pytest.mark.parametrize(
    ("made", "changes", "message"),
    [
        (Study, {"sizes": "tiny"}, "Study.sizes = 'tiny': expected a tuple, such as ('tiny',)."),
        (Study, {"seeds": 0}, "Study.seeds = 0: expected a tuple, such as (0,)."),
        (Study, {"seeds": ("0",)}, "Study.seeds = ('0',): expected a tuple, such as (0,)."),
        (Study, {"chains": "CD:FLM 1B"}, "expected a tuple, such as ('CD:FLM 1B',)."),
        (Study, {"grids": Grid()}, "expected a tuple, such as (@design.Grid(),)."),
        (Study, {"evaluations": (Evaluation,)}, "such as (@design.Evaluation(),)."),
        (Study, {"gin_files": "c4.gin"}, "Study.gin_files = 'c4.gin': expected a tuple"),
        (Study, {"bindings": {"train": "A=1"}}, "Study.bindings['train'] = 'A=1': expected a"),
        (Evaluation, {"after": "pretrain"}, "Evaluation.after of E = 'pretrain': expected a tuple"),
        (Evaluation, {"bindings": "A=1"}, "Evaluation.bindings of E = 'A=1': expected a tuple"),
        (Grid, {"architectures": "CD"}, "Grid.architectures = 'CD': expected a tuple"),
        (Grid, {"objectives": "LM"}, "Grid.objectives = 'LM': expected a tuple"),
        (Grid, {"budgets": "1B"}, "Grid.budgets = '1B': expected a tuple, such as ('1B',)."),
    ],
)
def test_one_where_a_tuple_is_expected_is_told_with_the_tuple(made, changes, message):
    needed = {
        Study: {"name": "s", "sizes": ("tiny",), "chains": ("CD:FLM 1B",)},
        Evaluation: {"name": "E", "gin_file": "f.gin"},
        Grid: {},
    }
    with pytest.raises(UserError, match=re.escape(message)):
        made(**(needed[made] | changes))


@pytest.mark.parametrize(
    ("beside", "hint"),
    [("t0", " Did you mean 'T0'?"), ("eai", " Did you mean 'EAI'?"), ("GLUE", "")],
)
def test_an_average_that_the_paper_has_not_is_told(beside, hint):
    with pytest.raises(UserError) as told:
        Evaluation("E", "f.gin", beside=beside)
    assert str(told.value).endswith(f"= {beside!r}: expected T0 or EAI, or None.{hint}")


def test_an_evaluation_after_an_unknown_kind_of_stage_is_told():
    with pytest.raises(UserError, match="Did you mean 'pretrain'"):
        Evaluation("a", "f.gin", after=("pretraining",))


@pytest.mark.parametrize("name", ["", "T0/EAI", "T0\necho", "T0\n", " T0", "..", "Évaluation"])
def test_a_name_of_an_evaluation_that_no_folder_or_comment_should_have_is_told(name):
    with pytest.raises(UserError, match=r"Evaluation\.name = .*: expected letters"):
        Evaluation(name, "f.gin")


def test_bindings_of_all_training_stages_come_before_those_of_a_kind_and_not_to_evaluations():
    bindings = {"train": ("A=1",), "adapt": ("A=2",), "evaluate": ("B=1",)}
    study = Study(name="s", sizes=("tiny",), chains=("CD:FLM 1B",), bindings=bindings)
    assert study.bindings_of("adapt") == ("A=1", "A=2")
    assert study.bindings_of("pretrain") == ("A=1",)
    assert study.bindings_of("evaluate") == ("B=1",)

"""Budgets and chains, as a study writes them."""

import pytest

from archobj_jax.errors import UserError
from archobj_jax.study import chains
from archobj_jax.study.budgets import Budget


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("168B", 168e9, "tokens"),
        ("681.6K tokens", 681.6e3, "tokens"),
        ("300 steps", 300.0, "steps"),
        ("3e18 FLOPs", 3e18, "FLOPs"),
        ("6.8e+10", 6.8e10, "tokens"),
    ],
)
def test_budgets_are_tokens_steps_or_flops(text, amount, unit):
    found = Budget.parse(text, where="here")
    assert (found.amount, found.unit) == (amount, unit)


@pytest.mark.parametrize("text", ["", "many", "0 steps", "-3B", "3 weeks", "B"])
def test_what_is_no_budget_is_told_with_its_place(text):
    with pytest.raises(UserError, match=r"^here: .*is no budget"):
        Budget.parse(text, where="here")


@pytest.mark.parametrize(
    ("text", "meant"),
    [("3e18 FLOP", "FLOPs"), ("3e18 flops", "FLOPs"), ("15 step", "steps"), ("168b", "B")],
)
def test_a_misspelt_unit_is_told_with_the_nearest(text, meant):
    with pytest.raises(UserError, match=f"'{text}' is no budget.* Did you mean '{meant}'"):
        Budget.parse(text, where="here")


def test_a_part_of_a_step_is_no_budget():
    with pytest.raises(UserError, match=r"here: '30\.5 steps' is no whole number"):
        Budget.parse("30.5 steps", where="here")
    assert Budget.parse("1.5K steps", where="here").amount == 1500


def test_steps_are_the_nearest_whole_number():
    step = {"step_tokens": 1000, "step_flops": 5e6, "where": "here"}
    assert Budget(2600.0, "tokens").steps(**step) == 3
    assert Budget(12e6, "FLOPs").steps(**step) == 2
    assert Budget(7.0, "steps").steps(**step) == 7
    assert Budget(700.0, "tokens").steps(**step) == 1


@pytest.mark.parametrize(
    ("budget", "one"), [(Budget(40.0, "FLOPs"), "5e[+]06 FLOPs"), (Budget(600.0, "tokens"), "1000")]
)
def test_a_budget_of_less_than_a_step_is_told_with_what_a_step_takes(budget, one):
    with pytest.raises(UserError, match=f"^here: {budget} are no step; one takes {one}"):
        budget.steps(step_tokens=1000, step_flops=5e6, where="here")


def test_the_papers_budget_is_its_number_of_steps_to_a_thousandth():
    steps = Budget.parse("168B", where="").steps(step_tokens=2048 * 626, step_flops=1.0, where="")
    assert steps == pytest.approx(131_072, rel=1e-3)


def test_a_chain_is_read_with_either_arrow_and_with_parentheses():
    one = chains.parse("CD:FLM 168B → ND:MLM 51B → ND:MTF 13B")
    other = chains.parse("CD:FLM (168B) -> ND:MLM (51B)->ND:MTF (13B)")
    assert one == other
    assert [leg.pair for leg in one] == ["CD:FLM", "ND:MLM", "ND:MTF"]
    assert [chains.kind(one[:end]) for end in (1, 2, 3)] == ["pretrain", "adapt", "finetune"]


def test_pretraining_that_goes_on_is_pretraining():
    assert chains.kind(chains.parse("CD:FLM 84B → CD:FLM 84B")) == "pretrain"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("CD:PLM 3B", "no pair 'CD:PLM'. Pairs of CD are CD:FLM, CD:MLM, CD:MTF"),
        ("nd:mlm 3B", "no pair 'nd:mlm'. Did you mean 'ND:MLM'"),
        ("ND:MLN 3B", "no pair 'ND:MLN'. Did you mean 'ND:MLM'"),
        ("CD:FLM 3B => CD:MTF 1B", "has '=>'; the arrow is → or ->"),
        ("CD:FLM 3B --> CD:MTF 1B", "has '-->'; the arrow is → or ->"),
        ("ND:MLM", "is no stage"),
        ("ND:MTF 3B", "begins with ND:MTF"),
        ("ND:MLM 3B → ND:MTF 1B → ND:MLM 1B", "goes on after ND:MTF"),
        ("ND:MLM 3B →", "'' is no stage"),
    ],
)
def test_a_mistake_in_a_chain_is_told_with_the_chain(text, message):
    with pytest.raises(UserError, match=message) as error:
        chains.parse(text)
    assert f"chain '{text}'" in str(error.value)

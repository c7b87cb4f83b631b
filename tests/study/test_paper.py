"""Our figures beside the paper's: which stand beside which, and how far the orders agree."""

import numpy as np
import pytest

from archobj_jax.study.report import paper
from tests.study.synthetic import score

THREE = ("CD:FLM", "ND:PLM", "ED:PLM")


def cells(scores, tokens=1000):
    return [paper.Cell(name, name, tokens, each) for name, each in scores.items()]


def beside(scores, average="T0", kind="pretrain"):
    """Of one budget, which is not the paper's."""
    (found,) = paper.agreements([cells(scores)], kind, average)
    return found


def test_agreement_with_the_paper_is_1_in_its_order_and_minus_1_in_the_reverse():
    def scored(values):
        return {
            name: score([value], [[value] * 10]) for name, value in zip(THREE, values, strict=True)
        }

    alike = beside(scored([3, 2, 1]))
    assert (alike.tau, alike.interval) == (1.0, (1.0, 1.0))
    assert alike.paper == (42.4, 41.8, 41.7)
    assert beside(scored([1, 2, 3])).tau == -1.0
    assert beside(scored([3, 1, 2])).tau == pytest.approx(1 / 3)


SIX = (*THREE, "CD:MLM", "ND:MLM", "ED:MLM")


def test_cells_of_the_papers_budgets_stand_beside_those_and_no_others():
    at_84, at_168 = (
        cells({name: score([value], [[value] * 10]) for value, name in enumerate(SIX)}, tokens)
        for tokens in (84.1e9, 167.6e9)
    )
    found = list(paper.agreements([at_84, at_168], "pretrain", "EAI"))
    assert [each.when for each in found] == [
        "pretraining only, 84B tokens", "pretraining only, 168B tokens",
    ]  # fmt: skip
    assert [len(each.names) for each in found] == [6, 3]


def test_of_other_budgets_the_longest_stands_beside_the_row_with_most_of_its_cells():
    small, large = (
        cells({name: score([tokens], [[tokens] * 10]) for name in SIX}, tokens)
        for tokens in (1000, 2000)
    )
    (found,) = paper.agreements([small, large], "pretrain", "EAI")
    assert found.when == "pretraining only, 84B tokens"
    assert found.ours[0].value == 2000
    assert len(found.names) == 6


@pytest.mark.parametrize("scale", [1e9, 1e3])
def test_of_one_chain_at_two_budgets_the_papers_stands_beside_the_paper(scale):
    """As in the paper: 168B, but 219B of the adapted model and of CD:FLM → ND:MTF."""
    chains = [
        ("CD:FLM → CD:MTF", 168), ("CD:FLM → CD:MTF", 219), ("ND:MLM → ND:MTF", 168),
        ("CD:FLM → ND:MTF", 168), ("CD:FLM → ND:MTF", 219), ("CD:FLM → ND:MLM → ND:MTF", 219),
    ]  # fmt: skip
    group = [
        paper.Cell(f"{pairs} {tokens}", pairs, int(tokens * scale), score([1.0], [[1.0] * 10]))
        for pairs, tokens in chains
    ]
    (found,) = paper.agreements([group], "finetune", "T0")
    assert found.names == (
        "CD:FLM → CD:MTF 168", "ND:MLM → ND:MTF 168", "CD:FLM → ND:MTF 219",
        "CD:FLM → ND:MLM → ND:MTF 219",
    )  # fmt: skip


def test_an_order_that_our_noise_could_have_made_has_an_interval_with_0():
    rng = np.random.default_rng(0)
    found = beside(
        {
            name: score([value], rng.normal(value, 5, size=(1, 500)))
            for value, name in enumerate(reversed(THREE))
        }
    )
    assert found.tau == 1.0
    assert found.interval[0] < 0 < found.interval[1]


def noisy(rng, gap, seeds):
    """Six cells in the paper's order, with normal noise of seeds and examples of 1."""
    made = {}
    for place, name in enumerate(SIX):
        of_seeds = rng.normal(0, 1, size=seeds) if seeds > 1 else np.zeros(1)
        values = -gap * place + of_seeds + rng.normal(0, 1, size=seeds)
        draws = values[:, None] + rng.normal(0, 1, size=(seeds, 400))
        made[name] = score(values, draws)
    return made


@pytest.mark.parametrize("seeds", [1, 3])
def test_taus_interval_holds_that_of_the_true_figures_as_often_as_it_says(seeds):
    """Cells so near each other that of pairs each at 95% many would be told the wrong way."""
    rng = np.random.default_rng(2)
    found = [beside(noisy(rng, 0.1, seeds), "EAI") for _ in range(200)]
    wrong = sum(each.interval[1] < 1 for each in found)
    assert wrong / 200 <= 0.05
    assert any(each.told_apart[2] for each in found)  # else nothing was tried


def test_taus_interval_says_something_where_cells_are_far_apart():
    rng = np.random.default_rng(2)
    found = [beside(noisy(rng, 4.0, 3), "EAI") for _ in range(20)]
    assert np.mean([each.interval[0] for each in found]) > 0


def test_taus_interval_counts_pairs_told_apart_as_they_lie_and_others_either_way():
    made = {"CD:FLM": score([9.0], [[9.0] * 10]), "ED:PLM": score([1.0], [[1.0] * 10])}
    found = beside(made)
    assert (found.told_apart, found.interval) == ((1, 1, 0), (1.0, 1.0))
    made["ND:PLM"] = score([5.0], [np.linspace(0, 10, 10)])
    found = beside(made)
    assert found.told_apart == (3, 1, 0)
    assert found.interval == pytest.approx((-1 / 3, 1.0))

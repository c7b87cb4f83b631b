"""What the sentences of the answer claim, and what they leave out."""

import dataclasses
import functools

import pytest

from archobj_jax.study.report import answer, speed_ups
from archobj_jax.study.report.comparing import rankings
from tests.study import synthetic
from tests.study.synthetic import evidence


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
    alone = ("CD:FLM 30 steps", "ND:MLM 30 steps → ND:MLM 10 steps")
    assert "on as many tokens" in answer.question(evidence(tmp_path / "alone", chains=alone))
    one = evidence(tmp_path / "one", chains=("CD:FLM 30 steps → CD:FLM 10 steps",))
    assert "pretrained" not in answer.question(one)
    marks = ("CD:FLM 30 steps → CD:FLM 30 steps", "ND:MLM 30 steps → ND:MLM 30 steps")
    assert "on as many tokens" in answer.question(evidence(tmp_path / "marks", chains=marks))


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


def test_of_a_handful_of_examples_nothing_is_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic, "made", functools.partial(synthetic.made, examples=5))
    (ranking,) = rankings(made := evidence(tmp_path), "finetune")
    assert ranking.best.examples == {"first": 5, "second": 5}
    assert {ranking.against_best(each) for each in ranking.scored} == {
        "highest", "too few examples",
    }  # fmt: skip
    sentence = answer.answer(made, [], [ranking], [])[1]
    assert "(5 examples of each data set)" in sentence
    assert "there are too few examples; none of the 3 is shown to be above chance" in sentence


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

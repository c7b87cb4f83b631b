import math

import numpy as np
import pytest

from archobj_jax.errors import UserError
from archobj_jax.evaluation.examples import Document, RankedExample, ScoredExample, stacked
from tests.evaluation.outcomes import answered, choice


def ranked(*choices, gold=(0,), **changes):
    return RankedExample(id="12", choices=choices, gold=gold, **changes)


def test_choices_are_taken_by_three_scores():
    """-6 for 2 bytes after nothing -8; -8 for 8 bytes, -9; -7 for 3 bytes, -10.

    By bytes: -3, -1, -7/3; without the inputs' part: 2, 1, 3.
    """
    example = ranked(
        choice(-6.0, bytes=2, unconditional=-8.0),
        choice(-8.0, bytes=8, unconditional=-9.0),
        choice(-7.0, bytes=3, unconditional=-10.0),
        gold=(1, 2),
    )
    expected = {"accuracy": 0, "accuracy_norm": 1, "accuracy_unconditional": 2}
    assert example.predictions == expected
    assert example.terms() == {
        "accuracy": (0, 1), "accuracy_norm": (100, 1), "accuracy_unconditional": (100, 1)
    }  # fmt: skip


def test_of_equal_scores_the_first_is_taken():
    example = ranked(choice(-2.0, bytes=2), choice(-1.0), choice(-1.0))
    assert example.predictions == {"accuracy": 1, "accuracy_norm": 0}


def test_weights_count():
    assert answered(0, True, weight=0.5).terms()["accuracy"] == (50, 0.5)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused(bad):
    with pytest.raises(UserError, match=r"example 12: a choice has the log likelihood .*finite"):
        ranked(choice(bad), choice(-1.0))
    with pytest.raises(UserError, match="example 12: a choice has the log likelihood"):
        ranked(choice(-1.0, unconditional=bad))
    with pytest.raises(UserError, match="document 3 has the loss"):
        Document(id="3", nats=bad, tokens=1, bytes=1)
    with pytest.raises(UserError, match="example 4: the metric 'f1' is"):
        ScoredExample(id="4", metrics={"f1": bad})


@pytest.mark.parametrize(
    "changes",
    [
        {"choices": ()},
        {"choices": (choice(-1.0, bytes=0),)},
        {"gold": ()},
        {"gold": (2,)},
        {"gold": (-1,)},
        {"weight": -1.0},
        {"choices": (choice(-1.0, unconditional=-2.0), choice(-1.0))},
    ],
)
def test_a_malformed_example_is_refused(changes):
    good = {"choices": (choice(-1.0), choice(-2.0)), "gold": (1,)}
    with pytest.raises(ValueError, match="example 12"):
        RankedExample(id="12", **(good | changes))


@pytest.mark.parametrize("lengths", [{"tokens": 0, "bytes": 3}, {"tokens": 3, "bytes": 0}])
def test_a_document_has_a_length(lengths):
    with pytest.raises(ValueError, match="document 3"):
        Document(id="3", nats=1.0, **lengths)


def test_a_document_has_its_nats_by_token_and_its_bits_by_byte():
    terms = Document(id="0", nats=2 * math.log(2), tokens=3, bytes=5).terms()
    assert terms == {"loss": (2 * math.log(2), 3), "bits_per_byte": (pytest.approx(2), 5)}


def test_prompts_are_paired_by_the_ids_of_their_examples():
    first = [answered(id, right) for id, right in [("a", True), ("b", False)]]
    second = [answered(id, right) for id, right in [("c", True), ("b", True)]]
    terms = stacked([first, second])["accuracy"]
    np.testing.assert_array_equal(terms.numerators, [[100, 0, 0], [0, 100, 100]])
    np.testing.assert_array_equal(terms.denominators, [[1, 1, 0], [0, 1, 1]])


def test_only_metrics_that_all_prompts_have_are_stacked():
    without = [ranked(choice(-1.0), choice(-2.0))]
    assert set(stacked([[answered(12, True)], without])) == {"accuracy", "accuracy_norm"}


def test_an_id_stands_for_one_example():
    with pytest.raises(ValueError, match="two examples have the same id"):
        stacked([[answered(1, True), answered(1, False)]])


def test_examples_of_a_prompt_have_the_same_metrics():
    examples = [ScoredExample(id="a", metrics={"f": 1.0}), ScoredExample(id="b", metrics={})]
    with pytest.raises(ValueError, match="example b has the metrics"):
        stacked([examples])

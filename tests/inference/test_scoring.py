"""Choices that share their inputs score as each does by itself, teacher-forced."""

from pathlib import Path

import jax
import numpy as np
import pytest

from archobj_jax.errors import UserError
from archobj_jax.inference.questions import Question
from archobj_jax.inference.scoring import Scoring
from archobj_jax.objectives import Example
from tests import parity, tiny

GOLDEN = Path(__file__).parents[1] / "golden/parity"


def tokens(rng: np.random.Generator, size: int) -> np.ndarray:
    return rng.integers(2, 48, size).astype(np.int32)


def ragged_questions() -> list[Question]:
    rng = np.random.default_rng(0)
    sizes = [(5, [1, 3, 2, 7]), (0, [2, 9]), (13, [1, 1, 1]), (1, [12, 1])]
    return [Question(tokens(rng, n), tuple(tokens(rng, c) for c in cs)) for n, cs in sizes]


def teacher_forced(model, params: dict, inputs: np.ndarray, choice: np.ndarray) -> np.ndarray:
    """Log probabilities of a choice's tokens in a row of its own."""
    example: Example = {"inputs": inputs, "targets": choice}
    batch = tiny.batch_of(model, [[example]], {"inputs": 32, "targets": 16})
    likely = np.asarray(jax.nn.log_softmax(tiny.logits_of(model)(params, batch)))[0]
    first = 0 if model.symbol == "ED" else inputs.size
    return likely[first : first + choice.size]


@pytest.mark.parametrize("positions", ["relative_per_layer", "relative_shared", "rope"])
@pytest.mark.parametrize("symbol", tiny.SYMBOLS)
def test_choices_that_share_inputs_score_as_each_alone(symbol: str, positions: str):
    model = tiny.SYMBOLS[symbol](tiny.network(positions=positions))
    blueprint, params = tiny.blueprint(model), tiny.parameters(model)
    questions = ragged_questions()
    scoring = Scoring.of(blueprint, questions, batch_tokens=128)
    made = scoring.collect([scoring.score(params, batch) for batch in scoring.batches])
    for question, scores in zip(questions, made, strict=True):
        for choice, score in zip(question.choices, scores, strict=True):
            likely = teacher_forced(model, params, question.inputs, choice)
            expected = likely[np.arange(choice.size), choice]
            np.testing.assert_allclose(score.log_likelihoods, expected, atol=1e-4)
            assert score.is_greedy == (likely.argmax(axis=-1) == choice).all()


def test_too_many_choices_for_a_row_take_several():
    model = tiny.SYMBOLS["ND"](tiny.network(num_decoder_layers=1))
    blueprint, params = tiny.blueprint(model), tiny.parameters(model)
    rng = np.random.default_rng(1)
    question = Question(tokens(rng, 8), tuple(tokens(rng, 6) for _ in range(9)))
    split = Scoring.of(blueprint, [question], batch_tokens=24)
    assert [len(choices) for _, choices in split.parts] == [2, 2, 2, 2, 1]
    whole = Scoring.of(blueprint, [question], batch_tokens=1000)
    assert len(whole.parts) == 1
    ((one,), (other,)) = (
        s.collect([s.score(params, batch) for batch in s.batches]) for s in (split, whole)
    )
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a.log_likelihoods, b.log_likelihoods, atol=1e-4)


def test_a_model_that_has_diverged_is_told():
    model = tiny.SYMBOLS["CD"](tiny.network(num_decoder_layers=1))
    params = jax.tree.map(lambda x: x * np.nan, tiny.parameters(model))
    choice = np.array([5, 6], np.int32)
    scoring = Scoring.of(tiny.blueprint(model), [Question(choice, (choice,))], batch_tokens=64)
    with pytest.raises(UserError, match="not all finite"):
        scoring.score(params, scoring.batches[0])


@pytest.mark.parametrize("choices", [(), (np.array([3], np.int32), np.zeros(0, np.int32))])
def test_every_choice_has_tokens(choices: tuple):
    with pytest.raises(ValueError, match="no tokens to score"):
        Question(np.array([5], np.int32), choices)


@pytest.mark.parametrize("name", ["encdec_tied", "deconly_tied"])
def test_scores_are_those_of_t5x(name: str):
    golden = parity.Golden(str(GOLDEN / f"{name}.npz"))
    groups = [g for g in golden.groups("out_plain.*") if "sequence_scores" in golden.under(g)]
    assert groups
    for group in groups:
        batch = {name: np.asarray(array) for name, array in golden.batch(group).items()}
        scoring = Scoring.of(
            tiny.blueprint(golden.architecture(group)), questions_of(batch), batch_tokens=1024
        )
        made = scoring.collect([scoring.score(golden.params, b) for b in scoring.batches])
        expected = golden.under(group)["sequence_scores"]
        np.testing.assert_allclose([s[0].total for s in made], expected, atol=1e-4, rtol=0)


def questions_of(batch: dict[str, np.ndarray]) -> list[Question]:
    """A batch of one example a row, as questions of one choice."""
    made = []
    for row, tokens in enumerate(batch["decoder_target_tokens"]):
        scored = batch["decoder_loss_weights"][row] > 0
        inputs = tokens[: np.flatnonzero(scored)[0]]
        if "encoder_input_tokens" in batch:
            inputs = batch["encoder_input_tokens"][row]
            inputs = inputs[inputs > 0]
        made.append(Question(inputs, (tokens[scored],)))
    return made

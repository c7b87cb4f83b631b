"""Scores are log-probabilities; generation is what scoring finds most likely."""

import jax
import numpy as np
import pytest

from archobj_jax.inference.decoding import Generation
from archobj_jax.inference.predictor import Predictor
from archobj_jax.objectives import Example
from tests import tiny


class Letters:
    """a, b, c ... are 2, 3, 4 ...; 1 ends."""

    eos_id = 1

    def encode(self, text: str) -> list[int]:
        return [ord(letter) - 95 for letter in text]

    def decode(self, tokens: list[int]) -> str:
        return "".join(chr(token + 95) for token in tokens)


@pytest.fixture(scope="module", params=tiny.SYMBOLS)
def predictor(request) -> Predictor:
    model = tiny.SYMBOLS[request.param](tiny.network(num_decoder_layers=1, num_encoder_layers=1))
    return Predictor(tiny.blueprint(model), tiny.parameters(model), Letters(), step=0)


def direct(predictor: Predictor, pairs: list[tuple[str, str]]) -> list[np.ndarray]:
    """Log-probabilities of the targets of each pair, by the model itself."""
    texts = [[np.array(predictor.vocabulary.encode(t), np.int32) for t in pair] for pair in pairs]
    rows: list[list[Example]] = [[{"inputs": i, "targets": t}] for i, t in texts]
    model = predictor.blueprint.architecture
    batch = tiny.batch_of(model, rows, {"inputs": 16, "targets": 12})
    likely = np.asarray(jax.nn.log_softmax(tiny.logits_of(model)(predictor.params, batch)))
    made = []
    for row, (inputs, targets) in enumerate(texts):
        first = 0 if model.symbol == "ED" else inputs.size
        made.append(likely[row, first + np.arange(targets.size), targets])
    return made


def test_a_score_is_the_log_softmax_of_each_target(predictor: Predictor):
    pairs = [("abc", "de"), ("", "xyz")]
    for made, expected in zip(predictor.score(pairs), direct(predictor, pairs), strict=True):
        np.testing.assert_allclose(made.log_likelihoods, expected, atol=1e-4)
        assert made.total == pytest.approx(expected.sum(), abs=1e-4)


def test_greedy_text_scores_as_greedy(predictor: Predictor):
    prompts = ["abc", "hellothere"]
    texts = [made[0].text for made in predictor.generate(prompts, Generation(max_new_tokens=5))]
    assert all(len(text) == 5 for text in texts)
    pairs = list(zip(prompts, texts, strict=True))
    assert all(score.is_greedy for score in predictor.score(pairs))
    other = [(p, ("b" if t[0] != "b" else "c") + t[1:]) for p, t in pairs]
    assert not any(score.is_greedy for score in predictor.score(other))


def test_targets_must_have_tokens(predictor: Predictor):
    with pytest.raises(ValueError, match="tokenise to nothing"):
        predictor.score([("abc", "")])

"""Beam search finds what trying all texts finds, and as a plain search over lists does."""

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from archobj_jax.errors import UserError
from archobj_jax.inference import decoding
from archobj_jax.inference.beam import BeamSearch
from archobj_jax.inference.decoding import Generated, Generation
from tests import tiny

EOS, VOCABULARY, NEW = 1, 4, 3
PROMPTS = [np.array(p, np.int32) for p in ([2, 3, 2, 2], [3], [])]
LogProbabilities = Callable[[tuple[int, ...]], np.ndarray]


class Digits:
    """Decodes ids as digits; 1 ends."""

    eos_id = EOS

    def decode(self, tokens: list[int]) -> str:
        return "".join(map(str, tokens))


def search(model, prompts: list[np.ndarray], config: Generation) -> list[list[Generated]]:
    return decoding.generate(
        tiny.blueprint(model), tiny.parameters(model), Digits(), prompts, config, batch_tokens=512
    )


def penalty(tokens: int, alpha: float) -> float:
    return ((5 + tokens) / 6) ** alpha


def all_texts() -> list[tuple[int, ...]]:
    """Every text of up to NEW tokens: those that EOS ends, and those of NEW tokens without it."""
    others = [token for token in range(VOCABULARY) if token != EOS]
    texts: list[tuple[int, ...]] = []
    for length in range(NEW + 1):
        end = () if length == NEW else (EOS,)
        texts += [(*text, *end) for text in itertools.product(others, repeat=length)]
    return texts


def log_likelihoods(model, prompt: np.ndarray, texts: list[tuple[int, ...]]) -> np.ndarray:
    """Of whole texts after a prompt, by the model itself."""
    examples = [{"inputs": prompt, "targets": np.array(text, np.int32)} for text in texts]
    batch = tiny.batch_of(model, [[example] for example in examples], {"inputs": 4, "targets": NEW})
    likely = jax.nn.log_softmax(tiny.logits_of(model)(tiny.parameters(model), batch))
    targets = batch["decoder_target_tokens"][..., None]
    chosen = jnp.take_along_axis(likely, targets, axis=-1)[..., 0]
    return np.asarray((chosen * batch["decoder_loss_weights"]).sum(axis=1))


@pytest.mark.parametrize(
    ("symbol", "alpha"), [("CD", 0.6), ("ND", 0.6), ("ED", 0.6), ("CD", 0.0), ("ED", 2.0)]
)
def test_it_finds_the_best_of_all_texts(symbol: str, alpha: float):
    """With so many beams nothing that could come to be among the best is ever left."""
    model = tiny.SYMBOLS[symbol](tiny.network(vocab_size=VOCABULARY))
    config = Generation(max_new_tokens=NEW, beams=BeamSearch(27, alpha), num_samples=12)
    texts = all_texts()
    assert len(texts) == 40
    for prompt, found in zip(PROMPTS, search(model, PROMPTS, config), strict=True):
        likely = log_likelihoods(model, prompt, texts)
        scores = likely / np.array([penalty(len(text), alpha) for text in texts])
        best = np.argsort(-scores)[:12]
        assert [each.score for each in found] == pytest.approx(scores[best], abs=1e-5)
        for each, index in zip(found, best, strict=True):
            assert each.tokens == tuple(t for t in texts[index] if t != EOS)
            assert each.text == Digits().decode(each.tokens)
            assert each.log_likelihood == pytest.approx(likely[index], abs=1e-5)
            assert each.ended == ("eos" if texts[index][-1] == EOS else "length")


def plain_search(
    next_token: LogProbabilities, beams: int, alpha: float, limit: int
) -> tuple[float, tuple[int, ...]]:
    """Beam search over lists, to the end: score and tokens of the best text."""
    live: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    finished = []
    for length in range(1, limit + 1):
        grown = []
        for total, text in live:
            for token, likely in enumerate(next_token(text)):
                if token == EOS:
                    finished.append(((total + likely) / penalty(length, alpha), text))
                else:
                    grown.append((total + likely, (*text, token)))
        live = sorted(grown, reverse=True)[:beams]
    finished += [(total / penalty(limit, alpha), text) for total, text in live]
    return max(finished)


@pytest.mark.parametrize(("beams", "alpha"), [(1, 0.6), (2, 0.0), (3, 0.6)])
def test_few_beams_find_what_a_plain_search_with_so_many_finds(beams: int, alpha: float):
    vocabulary, limit = 8, 6
    network = tiny.network(vocab_size=vocabulary, emb_dim=8, num_decoder_layers=1)
    model = tiny.ND(network)
    prompts = [np.array(p, np.int32) for p in ([2, 3, 2, 2], [3, 7], [5, 4, 6])]
    config = Generation(max_new_tokens=limit, beams=BeamSearch(beams, alpha))
    logits_of = tiny.logits_of(model)

    for prompt, (found,) in zip(prompts, search(model, prompts, config), strict=True):

        def next_token(text: tuple[int, ...], prompt: np.ndarray = prompt) -> np.ndarray:
            example = {"inputs": prompt, "targets": np.array([*text, 0], np.int32)}
            batch = tiny.batch_of(model, [[example]], {"inputs": 4, "targets": limit})
            logits = logits_of(tiny.parameters(model), batch)[0, prompt.size + len(text)]
            return np.asarray(jax.nn.log_softmax(logits))

        score, text = plain_search(next_token, beams, alpha, limit)
        assert (found.tokens, found.score) == (text, pytest.approx(score, abs=1e-5))


class Nothing:
    """A cache without anything in it."""

    def reordered(self, parents, *, prompt):
        return self


def test_it_ends_when_no_beam_can_come_to_beat_the_finished_texts():
    """Two beams; after any token EOS has 0.7 of the probability, and a text may have 40 tokens."""
    search = BeamSearch(beams=2, length_penalty=0.6)
    logits = jnp.log(jnp.broadcast_to(jnp.array([0.1, 0.7, 0.15, 0.05]), (4, 4)))
    steps = {}
    for wanted in (1, 2):
        state = search.begin(None, jnp.array([40, 0]), num_samples=wanted, prompt=0)
        assert state.done.tolist() == [False, True]
        while not state.done.all():
            _, state, _ = search.choose(logits, state, Nothing(), EOS)
        steps[wanted] = int(state.index)
    # log 0.7 = -0.36 against at best log 0.15 / 7.5 ** 0.6 = -0.57: one text is there at once.
    # For a second, log(0.15 * 0.7) / (7 / 6) ** 0.6 = -2.05; of length 3 at best
    # 2 log 0.15 / 7.5 ** 0.6 = -1.13 may beat it, 6 log 0.15 / 7.5 ** 0.6 = -3.4 may not.
    bound = 7.5**0.6
    second = np.log(0.15 * 0.7) / (7 / 6) ** 0.6
    expected = next(n for n in range(1, 40) if n * np.log(0.15) / bound <= second)
    assert steps == {1: 1, 2: expected}
    np.testing.assert_allclose(state.finished.score[0], [np.log(0.7), second], rtol=1e-5)


def test_a_stop_string_ends_a_hypothesis_at_once():
    """Its score is that of its own length, and it leaves its beam to others."""
    search = BeamSearch(beams=2, length_penalty=1.0)
    logits = jnp.log(jnp.broadcast_to(jnp.array([0.3, 0.1, 0.4, 0.2]), (2, 4)))
    state = search.begin(None, jnp.array([3]), num_samples=2, prompt=0)
    step, state, _ = search.choose(logits, state, Nothing(), EOS)
    assert step.tokens.tolist() == [2, 0]
    state = search.stop(state, jnp.array([True, False]))
    np.testing.assert_allclose(state.live, [[-np.inf, np.log(0.3)]], rtol=1e-6)
    assert state.finished.ended[0, 0] == 1
    np.testing.assert_allclose(state.finished.score[0, 0], np.log(0.4), rtol=1e-5)
    step, state, _ = search.choose(logits, state, Nothing(), EOS)
    assert (step.tokens.tolist(), step.parents.tolist()) == ([2, 0], [1, 1])


@pytest.mark.parametrize("options", [{"beams": 0}, {"length_penalty": -0.1}])
def test_a_field_out_of_range_is_refused(options: dict):
    with pytest.raises(UserError, match="BeamSearch"):
        BeamSearch(**options)

"""Generation: what it returns, when it ends, and that nothing else in a batch matters."""

import dataclasses

import jax
import numpy as np
import pytest

from archobj_jax.architectures.language_model import LanguageModel
from archobj_jax.errors import UserError
from archobj_jax.inference import token_loop
from archobj_jax.inference.beam import BeamSearch
from archobj_jax.inference.decoding import Generated, Generation
from archobj_jax.inference.predictor import Predictor
from archobj_jax.inference.questions import Question
from archobj_jax.inference.sampling import Sampling
from tests import tiny

LENGTHS = (3, 12, 0, 7)
PROMPTS = [np.random.default_rng(n).integers(2, 64, n).astype(np.int32) for n in LENGTHS]
DRAW = Sampling(temperature=3.0)
BEAMS = {"beams": BeamSearch(3, length_penalty=3.0)}  # long texts


@dataclasses.dataclass(frozen=True)
class Letters:
    """Id i is the i-th character from "A" on; one of them ends."""

    eos_id: int = 1

    def encode(self, text: str) -> list[int]:
        return [ord(letter) - ord("A") for letter in text]

    def decode(self, tokens: list[int]) -> str:
        return "".join(chr(token + ord("A")) for token in tokens)


def make(symbol: str, *, eos_id: int = 1, devices: int = 1, **mesh: int) -> Predictor:
    # With tied logits, greedy text is one token again and again.
    network = tiny.network(num_decoder_layers=1, num_encoder_layers=1, logits_via_embedding=False)
    model = tiny.SYMBOLS[symbol](network)
    blueprint = tiny.blueprint(model, devices, **mesh)
    shardings = jax.tree.map(lambda x: x.sharding, blueprint.abstract_params())
    params = jax.device_put(tiny.parameters(model), shardings)
    return Predictor(blueprint, params, Letters(eos_id), step=0)


@pytest.fixture(scope="module", params=tiny.SYMBOLS)
def predictor(request) -> Predictor:
    return make(request.param)


@pytest.fixture(scope="module")
def decoder() -> Predictor:
    return make("ND")


def write(predictor: Predictor, config: Generation, **options) -> list[list[Generated]]:
    return predictor.generate_tokens(PROMPTS, config, **options)


def scored(predictor: Predictor, prompt: np.ndarray, made: Generated) -> float:
    """The log likelihood of a text, by scoring."""
    end = (predictor.vocabulary.eos_id,) if made.ended == "eos" else ()
    targets = np.array([*made.tokens, *end], np.int32)
    ((score,),) = predictor.score_questions([Question(prompt, (targets,))])
    return score.total


def same(first: list[list[Generated]], second: list[list[Generated]]) -> None:
    assert [[m.tokens for m in each] for each in first] == [
        [m.tokens for m in each] for each in second
    ]
    likely = [[m.log_likelihood for each in made for m in each] for made in (first, second)]
    assert likely[0] == pytest.approx(likely[1], abs=1e-4)


def test_log_likelihoods_are_those_of_scoring(predictor: Predictor):
    for config in (
        Generation(max_new_tokens=5),
        Generation(max_new_tokens=5, sampling=DRAW, num_samples=2),
        Generation(max_new_tokens=5, beams=BeamSearch(3), num_samples=2),
    ):
        for prompt, texts in zip(PROMPTS, write(predictor, config), strict=True):
            assert len(texts) == config.num_samples
            for made in texts:
                assert made.text == predictor.vocabulary.decode(list(made.tokens))
                assert made.log_likelihood == pytest.approx(
                    scored(predictor, prompt, made), abs=1e-4
                )


def test_a_prompts_texts_do_not_depend_on_what_is_with_it(predictor: Predictor):
    config = Generation(max_new_tokens=6, sampling=DRAW, num_samples=2, seed=4)
    together = write(predictor, config)
    alone = [
        predictor.generate_tokens([prompt], config, numbers=[number])[0]
        for number, prompt in enumerate(PROMPTS)
    ]
    same(alone, together)
    texts = [made.tokens for each in together for made in each]
    assert len(set(texts)) == len(texts)
    more = dataclasses.replace(config, num_samples=3)
    same([each[:2] for each in write(predictor, more)], together)
    other = write(predictor, dataclasses.replace(config, seed=5))
    assert not set(texts) & {made.tokens for each in other for made in each}


def test_each_prompt_may_have_a_limit_of_its_own(decoder: Predictor):
    limits = (1, 4, 20, 2)
    whole = write(decoder, Generation(max_new_tokens=20))
    made = write(decoder, Generation(max_new_tokens=20), limits=limits)
    for (one,), (other,), limit in zip(made, whole, limits, strict=True):
        assert one.tokens == other.tokens[:limit]
        assert one.ended == "length"
    beams = Generation(max_new_tokens=20, beams=BeamSearch(2))
    for (one,), limit in zip(write(decoder, beams, limits=limits), limits, strict=True):
        assert len(one.tokens) <= limit


def test_the_end_of_sequence_ends_a_text(predictor: Predictor):
    (whole,), *_ = write(predictor, Generation(max_new_tokens=6))
    eos_id = whole.tokens[3]
    ending = dataclasses.replace(predictor, vocabulary=Letters(eos_id))
    (made,) = ending.generate_tokens(PROMPTS[:1], Generation(max_new_tokens=40))[0]
    first = whole.tokens.index(eos_id)
    assert (made.tokens, made.ended) == (whole.tokens[:first], "eos")
    assert made.log_likelihood == pytest.approx(scored(ending, PROMPTS[0], made), abs=1e-4)


@pytest.mark.parametrize(
    ("symbol", "config"),
    [
        ("CD", Generation(max_new_tokens=70, sampling=DRAW)),
        ("ED", Generation(max_new_tokens=40, **BEAMS)),
    ],
)
def test_a_cache_that_grows_changes_nothing(symbol: str, config: Generation, monkeypatch):
    predictor = make(symbol)
    whole = predictor.generate_tokens(PROMPTS[:2], config)
    assert max(len(made.tokens) for (made,) in whole) > 30
    monkeypatch.setattr(token_loop, "FIRST_ROOM", 3)
    same(predictor.generate_tokens(PROMPTS[:2], config), whole)


def test_room_for_a_long_text_is_not_made_before_it_is_there(decoder: Predictor, monkeypatch):
    capacities = []
    grown = token_loop._grown

    def recorded(*arguments, capacity: int):
        capacities.append(capacity)
        return grown(*arguments, capacity=capacity)

    monkeypatch.setattr(token_loop, "_grown", recorded)
    prompt = PROMPTS[:1]
    assert token_loop.FIRST_ROOM == 64
    short = decoder.generate_tokens(
        prompt, Generation(max_new_tokens=4000, stop=("@",)), limits=[60]
    )
    assert capacities == []
    decoder.generate_tokens(prompt, Generation(max_new_tokens=100))
    assert capacities == [128]
    assert len(short[0][0].tokens) == 60


def test_a_prompt_is_read_once_for_all_of_its_texts(monkeypatch):
    read = []
    start = LanguageModel.start

    def recorded(self, batch, capacity):
        read.append(batch["decoder_input_tokens"].shape)
        return start(self, batch, capacity)

    monkeypatch.setattr(LanguageModel, "start", recorded)
    config = Generation(max_new_tokens=2, sampling=DRAW, num_samples=5)
    make("CD").generate_tokens([PROMPTS[1], PROMPTS[1]], config)
    assert read == [(2, 16)]


@pytest.mark.parametrize(
    ("number", "strategy"), [(1, {}), (1, {"sampling": DRAW}), (2, {"beams": BeamSearch(3, 1.0)})]
)
def test_a_stop_string_ends_a_text_and_is_no_part_of_it(
    decoder: Predictor, number: int, strategy: dict
):
    config = Generation(max_new_tokens=30, **strategy)
    ((whole,),) = decoder.generate_tokens(PROMPTS[number : number + 1], config)
    stop = whole.text[5:7]  # over two tokens
    config = dataclasses.replace(config, stop=("????", stop))
    ((made,),) = decoder.generate_tokens(PROMPTS[number : number + 1], config)
    assert made.text == whole.text.partition(stop)[0]
    assert made.ended == "stop"
    assert decoder.vocabulary.decode(list(made.tokens)) == made.text + stop
    assert made.log_likelihood == pytest.approx(scored(decoder, PROMPTS[number], made), abs=1e-4)


def test_rows_that_met_a_stop_string_are_not_gone_on_with(decoder: Predictor, monkeypatch):
    steps = []
    advance = token_loop.advance

    def recorded(*arguments):
        made = advance(*arguments)
        steps.append(int(made[2]))
        return made

    monkeypatch.setattr(token_loop, "advance", recorded)
    (whole,) = decoder.generate_tokens(PROMPTS[:1], Generation(max_new_tokens=200))[0]
    assert sum(steps) == 199
    steps.clear()
    stop = next(letter for letter in whole.text[1:] if letter != whole.text[0])
    config = Generation(max_new_tokens=200, stop=(stop,))
    decoder.generate_tokens(PROMPTS[:1], config)
    assert steps == [token_loop.CHUNK, 0]


@pytest.mark.parametrize("strategy", [{}, {"sampling": DRAW, "num_samples": 2}, BEAMS])
def test_text_is_handed_on_as_it_is_made(decoder: Predictor, strategy: dict):
    whole = decoder.generate_tokens(PROMPTS[:2], Generation(max_new_tokens=9, **strategy))
    config = Generation(max_new_tokens=9, stop=(whole[0][0].text[4:6],), **strategy)
    pieces: dict[tuple[int, int], list[str]] = {}
    made = decoder.generate_tokens(
        PROMPTS[:2],
        config,
        on_text=lambda prompt, sample, text: pieces.setdefault((prompt, sample), []).append(text),
    )
    assert made == decoder.generate_tokens(PROMPTS[:2], config)
    for prompt, texts in enumerate(made):
        for sample, each in enumerate(texts):
            assert "".join(pieces.get((prompt, sample), [])) == each.text
    one_by_one = strategy is not BEAMS
    assert (len(pieces[1, 0]) > 5) == one_by_one


@pytest.mark.parametrize("symbol", tiny.SYMBOLS)
def test_a_mesh_writes_what_one_device_writes(symbol: str):
    meshed = make(symbol, devices=8, fsdp=2, tensor=2)
    assert tuple(meshed.blueprint.rules.mesh.shape.values()) == (2, 2, 1, 2)
    single = make(symbol)
    greedy = Generation(max_new_tokens=20)
    same(write(meshed, greedy), write(single, greedy))
    if symbol == "ED":
        beams = Generation(max_new_tokens=6, beams=BeamSearch(3), num_samples=2)
        same(write(meshed, beams), write(single, beams))


def test_a_sequence_axis_changes_nothing_that_is_written():
    greedy = Generation(max_new_tokens=6)
    split = make("ED", devices=8, data=1, fsdp=2, sequence=4)
    same(write(split, greedy), write(make("ED"), greedy))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens = 0"),
        ({"num_samples": 0}, "num_samples = 0"),
        ({"num_samples": 2}, "num_samples = 2 greedy texts would be the same"),
        ({"num_samples": 5, "beams": BeamSearch(4)}, "cannot come from beams = 4"),
        ({"sampling": DRAW, "beams": BeamSearch(4)}, "beams and sampling exclude each other"),
        ({"stop": ("a", "")}, "stop has an empty string"),
        ({"seed": -1}, "seed = -1"),
    ],
)
def test_fields_that_contradict_are_refused(options: dict, message: str):
    with pytest.raises(UserError, match=f"Generation: .*{message}"):
        Generation(**options)

"""The harness's requests become questions, prompts and answers of ours."""

import itertools
import logging

import numpy as np
import pytest

from tests.evaluation import offline  # noqa: F401  # before the harness is imported

# isort: split
from lm_eval.api.instance import Instance

from archobj_jax.data.vocabularies import embedded_vocabulary
from archobj_jax.errors import UserError
from archobj_jax.evaluation.harness import HarnessLM
from archobj_jax.evaluation.harness_arguments import Arguments, check_unused, generation
from archobj_jax.inference.decoding import Generated, Generation
from archobj_jax.inference.predictor import Predictor
from archobj_jax.inference.questions import Question, Total
from archobj_jax.inference.runner import Runner
from archobj_jax.inference.sampling import Sampling
from tests import tiny


def requests(kind: str, *arguments: tuple) -> list[Instance]:
    return [
        Instance(request_type=kind, doc={}, arguments=each, idx=0, metadata=("mine", number, 1))
        for number, each in enumerate(arguments)
    ]


def predictor(symbol: str = "CD") -> Predictor:
    network = tiny.network(vocab_size=4224, num_decoder_layers=1, num_encoder_layers=1)
    model = tiny.SYMBOLS[symbol](network)
    return Predictor(tiny.blueprint(model), tiny.parameters(model), embedded_vocabulary(), step=0)


class Recorder:
    """A runner without a model: a score is minus the number of tokens; texts are numbered."""

    def __init__(self) -> None:
        self.predictor = predictor()
        self.questions: list[Question] = []
        self.generations: list[tuple[list[np.ndarray], Generation]] = []

    def score(self, name: str, questions: list[Question]) -> list[list[Total]]:
        self.questions = questions
        return [[Total(-float(c.size), c.size == 1) for c in q.choices] for q in questions]

    def generate(self, name: str, prompts: list, config: Generation) -> list[list[Generated]]:
        self.generations.append((prompts, config))
        call = len(self.generations)
        return [[Generated((), f"{call}.{i}", 0.0, "stop")] for i in range(len(prompts))]


def test_a_context_is_one_question_and_a_choice_is_scored_once():
    runner = Recorder()
    asked = requests(
        "loglikelihood",
        ("Return the", " list"),
        ("Return", " the"),
        ("Return the", " same list"),
        ("Return the ", "list"),
        ("", "Return the"),  # the tokens of another's context
        ("", "Return"),
    )
    answers = HarnessLM(runner).loglikelihood(asked)
    assert [-total for total, _ in answers] == [1, 1, 2, 1, 2, 1]
    assert [is_greedy for _, is_greedy in answers] == [True, True, False, True, False, True]
    asked_for = [(q.inputs.size, len(q.choices)) for q in runner.questions]
    assert asked_for == [(2, 2), (1, 1), (0, 1), (0, 1)]


@pytest.mark.parametrize("symbol", tiny.SYMBOLS)
def test_log_likelihoods_are_those_of_the_model(symbol: str):
    model = predictor(symbol)
    lm = HarnessLM(Runner(model))
    pairs = [("Return the", " list"), ("", " The list"), ("Return the", " name of it")]
    tokens = [lm.boundaries.pair(*pair) for pair in pairs]
    expected = model.score_questions([Question(pair.inputs, (pair.targets,)) for pair in tokens])
    answers = lm.loglikelihood(requests("loglikelihood", *pairs))
    for (total, is_greedy), (score,) in zip(answers, expected, strict=True):
        assert total == pytest.approx(score.total, abs=1e-4)
        assert is_greedy == score.is_greedy


def test_long_contexts_lose_their_beginning_and_are_counted(caplog: pytest.LogCaptureFixture):
    runner = Recorder()
    lm = HarnessLM(runner, name="mine", max_length=4)
    context = "Return the name of the list"
    with caplog.at_level(logging.WARNING):
        lm.loglikelihood(requests("loglikelihood", (context, " the list"), ("Return", " the")))
    assert "mine: 1 of 2 contexts lost their beginning" in caplog.text
    assert lm.truncated == {context}
    assert runner.questions[0].inputs.tolist() == lm.boundaries.tokens("the list").tolist()


@pytest.mark.parametrize(
    ("continuation", "expected"),
    [
        (" ", "has no tokens to score"),
        (" the list of the list", "has 5 tokens, at most max_length"),
    ],
)
def test_a_continuation_that_cannot_be_scored_is_named(continuation: str, expected: str):
    lm = HarnessLM(Recorder(), max_length=4)
    asked = requests("loglikelihood", ("Return", " the"), ("Return", continuation))
    with pytest.raises(UserError, match=rf"task 'mine', document 1: .*{expected}"):
        lm.loglikelihood(asked)


def test_windows_predict_each_token_once_and_fit():
    runner = Recorder()
    lm = HarnessLM(runner, max_length=6)
    text = "Return the name of the list and the list of the names"
    tokens = lm.boundaries.tokens(text).tolist()
    assert len(tokens) > 11
    assert lm.loglikelihood_rolling(requests("loglikelihood_rolling", (text,))) == [-len(tokens)]
    asked = [(q.inputs.tolist(), q.choices[0].tolist()) for q in runner.questions]
    assert asked[0][0] == []
    assert all(inputs for inputs, _ in asked[1:])
    assert all(len(inputs) + len(targets) <= 6 for inputs, targets in asked)
    assert list(itertools.chain(*(targets for _, targets in asked))) == tokens
    read = 0
    for inputs, targets in asked:
        assert tokens[read - len(inputs) : read] == inputs or not inputs
        read += len(targets)


@pytest.mark.parametrize("symbol", tiny.SYMBOLS)
def test_a_text_in_one_window_is_a_continuation_of_nothing(symbol: str):
    lm = HarnessLM(Runner(predictor(symbol)))
    texts = ["Return the name of the list.", ""]
    rolling = lm.loglikelihood_rolling(requests("loglikelihood_rolling", *[(t,) for t in texts]))
    ((alone, _),) = lm.loglikelihood(requests("loglikelihood", ("", texts[0])))
    assert rolling == [pytest.approx(alone, abs=1e-4), 0.0]


def test_prompts_with_the_same_settings_are_generated_together():
    runner = Recorder()
    lm = HarnessLM(runner, max_length=8, seed=3)
    short, long = {"until": ["."], "max_gen_toks": 2}, {"until": "\n", "max_new_tokens": 5}
    asked = requests("generate_until", ("Return the", short), ("Return", long), ("The", short))
    assert lm.generate_until(asked) == ["1.0", "2.0", "1.1"]
    (first, config), (second, _) = runner.generations
    assert config == Generation(max_new_tokens=2, stop=(".",), seed=3)
    assert [prompt.tolist() for prompt in [*first, *second]] == [
        lm.boundaries.tokens(text).tolist() for text in ("Return the", "The", "Return")
    ]


def test_a_long_prompt_leaves_room_for_new_tokens():
    runner = Recorder()
    lm = HarnessLM(runner, max_length=4)
    lm.generate_until(requests("generate_until", ("Return the name", {"max_gen_toks": 2})))
    ((prompt,), _), *_ = runner.generations
    assert prompt.tolist() == lm.boundaries.tokens("the name").tolist()
    with pytest.raises(UserError, match="document 0: 4 new tokens leave no room for a prompt"):
        lm.generate_until(requests("generate_until", ("Return", {"max_gen_toks": 4})))


@pytest.mark.parametrize(
    ("given", "sampling"),
    [
        ({"until": None}, Sampling()),
        ({"do_sample": False, "temperature": 0.7}, Sampling()),
        ({"temperature": 0.7, "top_k": 5}, Sampling(temperature=0.7, top_k=5)),
        ({"do_sample": True, "top_p": 0.9}, Sampling(temperature=1.0, top_p=0.9)),
    ],
)
def test_the_harness_says_how_to_sample(given: dict, sampling: Sampling):
    assert generation(given, max_gen_toks=7, seed=0) == Generation(
        max_new_tokens=7, sampling=sampling
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"untill": ["."]}, "unknown 'untill'. Did you mean 'until'?"),
        ({"repetition_penalty": 1.2}, "unknown 'repetition_penalty'. Known: until, "),
        ({"temperature": 1.0, "top_p": 2.0}, r"top_p = 2.0 must be in \(0, 1\]"),
    ],
)
def test_what_generation_cannot_do_is_an_error(given: dict, expected: str):
    lm = HarnessLM(Recorder())
    with pytest.raises(UserError, match=f"task 'mine', document 0: .*{expected}"):
        lm.generate_until(requests("generate_until", ("Return", given)))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "give checkpoint=…"),
        ({"checkpoint": "a", "max_lenght": 8}, "max_lenght=8: .*Did you mean 'max_length'?"),
        ({"checkpoint": "a", "dtype": "float32"}, "dtype=float32: .*There are: checkpoint, "),
        ({"checkpoint": "a", "max_length": "8k"}, "max_length=8k: expected a whole number"),
        ({"checkpoint": "a", "seed": True}, "seed=True: expected a whole number"),
    ],
)
def test_wrong_model_arguments_are_told(given: dict, expected: str):
    with pytest.raises(UserError, match=f"--model_args.*{expected}"):
        Arguments.of(given)


def test_model_arguments_are_taken():
    assert Arguments.of({"checkpoint": 900, "max_length": 64}) == Arguments("900", max_length=64)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"batch_size": 8}, "give --model_args batch_tokens"),
        ({"batch_size": 1, "max_batch_size": 4}, "give --model_args batch_tokens"),
        ({"device": "cpu"}, "--device cpu: set JAX_PLATFORMS"),
    ],
)
def test_batches_and_devices_are_said_otherwise(given: dict, expected: str):
    with pytest.raises(UserError, match=expected):
        check_unused(given)
    check_unused({"batch_size": 1, "max_batch_size": None, "device": "cuda:0"})  # the defaults


def test_there_is_no_chat_template():
    lm = HarnessLM(Recorder())
    assert lm.chat_template(False) == ""
    for ask in (lambda: lm.tokenizer_name, lambda: lm.chat_template(True),
                lambda: lm.apply_chat_template([])):  # fmt: skip
        with pytest.raises(UserError, match="leave --apply_chat_template out"):
            ask()


def test_the_model_reads_at_least_two_tokens():
    with pytest.raises(UserError, match="max_length = 1: must be at least 2"):
        HarnessLM(Recorder(), max_length=1)

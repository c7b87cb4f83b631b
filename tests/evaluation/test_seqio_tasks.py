"""Tasks are read as they are: choices grouped, cuts counted, windows that lose nothing."""

import numpy as np
import pytest
import seqio
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from archobj_jax.errors import UserError
from archobj_jax.evaluation import seqio_tasks
from archobj_jax.evaluation.seqio_tasks import Reading
from archobj_jax.prompts.ranking import rank_classification
from tests.data.corpora import byte_vocabulary

READING = Reading("validation", {"inputs": 6, "targets": 4})


def task_of(name: str, elements: dict, *, ranked: bool = False, eos: bool = True) -> seqio.Task:
    vocabulary = byte_vocabulary()

    def source(split, shuffle_files=False, seed=None):
        return tf.data.Dataset.from_tensor_slices(elements)

    return seqio.TaskRegistry.add(
        name,
        source=seqio.FunctionDataSource(source, splits=["validation"]),
        preprocessors=[
            seqio.preprocessors.tokenize,
            *([seqio.preprocessors.append_eos] if eos else []),
        ],
        output_features={
            feature: seqio.Feature(vocabulary, add_eos=feature == "targets")
            for feature in ("inputs", "targets")
            if feature in elements
        },
        metric_fns=[rank_classification] if ranked else [],
    )


def ranked(name: str, choices: list[str], **changes) -> seqio.Task:
    """Two records of two choices each, numbered 0 and 2."""
    elements = {
        "inputs": ["which", "which", "longer one", "longer one"],
        "targets": choices,
        "idx": np.array([[0, 0], [0, 1], [2, 0], [2, 1]], np.int32),
        "is_correct": [False, True, True, True],
        "weight": np.array([1, 1, 2, 2], np.float32),
    }
    return task_of(name, elements | changes, ranked=True)


def test_choices_of_a_record_are_one_question():
    task = ranked("reading_ranked", ["a", "é", "abcdef", "c"])
    assert seqio_tasks.kind_of(task, READING) == "rank"
    first, second = seqio_tasks.ranked_records(task, READING)
    assert (first.id, first.gold, first.choices, first.truncated) == ("0", (1,), ("a", "é"), False)
    assert (second.id, second.gold, second.weight, second.truncated) == ("2", (0, 1), 2.0, True)
    assert (first.inputs, second.inputs) == ("which", "longer one")
    encode = byte_vocabulary().encode
    assert first.question.inputs.tolist() == encode("which")
    assert [c.tolist() for c in first.question.choices] == [[*encode("a"), 1], [*encode("é"), 1]]
    assert second.question.inputs.tolist() == encode("longer one")[:6]
    assert second.question.choices[0].tolist() == encode("abcdef")[:4]


def test_the_first_records_alone():
    reading = Reading("validation", READING.lengths, num_examples=1)
    task = ranked("reading_first", ["a", "b", "c", "d"])
    assert [r.id for r in seqio_tasks.ranked_records(task, reading)] == ["0"]


def test_a_choice_of_no_tokens_is_named():
    task = ranked("reading_empty_choice", ["a", "b", "c", ""])
    with pytest.raises(UserError, match=r"reading_empty_choice, example 2: choice 1, ''.*nothing"):
        seqio_tasks.ranked_records(task, READING)


def test_a_record_without_a_right_choice_is_named():
    task = ranked("reading_no_gold", list("abcd"), is_correct=[False, False, True, False])
    with pytest.raises(UserError, match=r"reading_no_gold, example 0: none of its 2 choices"):
        seqio_tasks.ranked_records(task, READING)


def test_an_empty_split_is_told():
    task = task_of("reading_nothing", {"targets": tf.constant([], tf.string)})
    with pytest.raises(UserError, match="reading_nothing has no examples"):
        seqio_tasks.documents(task, READING)


def test_examples_with_inputs_keep_their_targets_whole():
    task = task_of("reading_pairs", {"inputs": ["longer one", "q"], "targets": ["answer", "é"]})
    assert seqio_tasks.kind_of(task, READING) == "loss"
    first, second = seqio_tasks.documents(task, READING)
    assert (first.tokens, first.bytes, first.truncated) == (7, 6, True)
    assert (second.tokens, second.bytes, second.truncated) == (3, 2, False)


@given(st.lists(st.integers(2, 9), min_size=1, max_size=60), st.integers(1, 20))
def test_windows_ask_for_each_token_once_with_its_context(tokens: list[int], length: int):
    document = np.array(tokens, np.int32)
    windows = list(seqio_tasks._windows(document, length))
    asked = np.concatenate([w.choices[0] for w in windows])
    assert asked.tolist() == tokens
    start = 0
    for number, window in enumerate(windows):
        size = window.inputs.size
        assert size + window.choices[0].size <= length
        assert size >= (length // 2 if number and length > 1 else 0)
        assert window.inputs.tolist() == tokens[start - size : start]
        start += window.choices[0].size

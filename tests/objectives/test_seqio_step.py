"""Objectives as SeqIO preprocessors: the same examples as from direct calls."""

import numpy as np
import pytest
import seqio
import tensorflow as tf

from archobj_jax.errors import UserError
from archobj_jax.objectives import FullLm, PrefixLm, SpanCorruption, rng_for
from archobj_jax.objectives.seqio_step import seqio_seed

SIZES = (0, 5, 300, 0, 3, 750, 40, 400, 1)
DOCUMENTS = [np.random.default_rng(n).integers(3, 4000, n, dtype=np.int32) for n in SIZES]
SPEC = {"targets": tf.TensorSpec([None], tf.int32)}

EACH = pytest.mark.parametrize(
    ("objective", "lengths"),
    [
        (FullLm(), {"targets": 100}),
        (PrefixLm(), {"targets": 100}),
        (PrefixLm(), {"inputs": 100, "targets": 100}),
        (SpanCorruption(), {"inputs": 90, "targets": 21}),
    ],
    ids=["full_lm", "prefix_lm", "prefix_lm_pairs", "span_corruption"],
)


class Vocabulary(seqio.PassThroughVocabulary):
    """4,096 ids of text and 100 sentinels."""

    def __init__(self):
        super().__init__(size=4196, eos_id=1)

    @property
    def extra_ids(self):
        return 100


VOCABULARY = Vocabulary()


def output_features(*names):
    return {name: seqio.Feature(VOCABULARY, add_eos=False) for name in names}


def documents(split=None, shuffle_files=False, seed=None):
    del split, shuffle_files, seed
    return tf.data.Dataset.from_generator(
        lambda: ({"targets": document} for document in DOCUMENTS), output_signature=SPEC
    )


def task(objective, *, cached=True):
    placeholder = [seqio.CacheDatasetPlaceholder()]
    return seqio.Task(
        f"objective_{objective.name}",
        source=seqio.FunctionDataSource(documents, splits=["train"]),
        output_features=output_features(*objective.features),
        preprocessors=[*placeholder, objective] if cached else [objective, *placeholder],
    )


def direct(objective, lengths, seed):
    """The examples of all full windows, by calling the objective itself."""
    end = [VOCABULARY.eos_id] if objective.document_ends else []
    stream = np.concatenate([[*d, *end] for d in DOCUMENTS if d.size])
    window = objective.window(lengths)
    return [
        example
        for i in range(stream.size // window)
        for example in objective.examples(
            stream[i * window : (i + 1) * window].astype(np.int32),
            rng_for(seed, i),
            lengths,
            VOCABULARY,
        )
    ]


def assert_same(examples, expected):
    assert len(examples) == len(expected) > 3
    for one, other in zip(examples, expected, strict=True):
        assert set(one) == set(other)
        for name in one:
            assert one[name].dtype == np.int32
            np.testing.assert_array_equal(one[name], other[name])


@EACH
def test_equals_direct_calls(objective, lengths):
    with seqio.map_seed_manager(17):
        features = output_features(*objective.features)
        dataset = objective(documents(), lengths, features)
    with seqio.map_seed_manager(17):
        seed = int(seqio_seed())
    assert dataset.element_spec == {
        name: tf.TensorSpec([None], tf.int32) for name in objective.features
    }
    assert_same(list(dataset.as_numpy_iterator()), direct(objective, lengths, seed))


@EACH
def test_in_a_task(objective, lengths):
    def examples(seed):
        dataset = task(objective).get_dataset(lengths, "train", shuffle=False, seed=seed)
        return list(dataset.as_numpy_iterator())

    with seqio.map_seed_manager(3):  # the placeholder is step 0 and adds nothing to the seed
        seed = int(seqio_seed())
    assert_same(examples(3), direct(objective, lengths, seed))
    if objective.features != ("targets",):
        first, second = examples(4), examples(5)
        assert not all(
            np.array_equal(a["inputs"], b["inputs"]) for a, b in zip(first, second, strict=True)
        )


def test_each_pass_over_the_documents_draws_anew():
    lengths = {"targets": sum(SIZES) + sum(n > 0 for n in SIZES)}
    dataset = task(PrefixLm()).get_dataset(lengths, "train", shuffle=False, seed=3, num_epochs=4)
    rows = list(dataset.as_numpy_iterator())
    assert len(rows) == 4
    assert len({row["inputs"].size for row in rows}) > 1
    whole = [np.concatenate([row["inputs"], row["targets"]]) for row in rows]
    np.testing.assert_array_equal(whole, [whole[0]] * 4)


def test_seqio_feature_converters_take_the_examples():
    lengths = {"inputs": 90, "targets": 21}
    dataset = task(SpanCorruption()).get_dataset(lengths, "train", shuffle=False, seed=3)
    row = next(seqio.EncDecFeatureConverter(pack=False)(dataset, lengths).as_numpy_iterator())
    assert row["encoder_input_tokens"].all()
    assert row["decoder_target_tokens"].all()


def test_lengths_are_needed():
    with pytest.raises(UserError, match="full_lm needs the task feature lengths"):
        FullLm()(documents(), None, output_features("targets"))


def test_the_task_must_have_the_features():
    with pytest.raises(UserError, match=r"prefix_lm makes the feature 'inputs'.*\['targets'\]"):
        PrefixLm()(documents(), {"targets": 8}, output_features("targets"))


def test_the_documents_must_be_tokenised():
    text = tf.data.Dataset.from_tensors({"text": "some words"})
    with pytest.raises(UserError, match=r"feature 'targets'; the dataset has \['text'\]"):
        FullLm()(text, {"targets": 8}, output_features("targets"))


def test_unusable_lengths_are_met_before_any_data():
    with pytest.raises(UserError, match="TASK_FEATURE_LENGTHS"):
        SpanCorruption()(
            documents(), {"inputs": 90, "targets": 8}, output_features("inputs", "targets")
        )


def test_seqio_refuses_an_objective_before_the_cache():
    with pytest.raises(ValueError, match="occurs before `CacheDatasetPlaceholder`"):
        task(FullLm(), cached=False).get_dataset({"targets": 8}, "train", shuffle=False)


def test_successive_steps_take_successive_seeds():
    with seqio.map_seed_manager(17):
        first, second = int(seqio_seed()), int(seqio_seed())
    with seqio.map_seed_manager(17):
        again = int(seqio_seed())
    assert first == again != second

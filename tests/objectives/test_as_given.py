import numpy as np
import pytest
import seqio
import tensorflow as tf

from archobj_jax.errors import UserError
from archobj_jax.objectives import AsGiven

LENGTHS = {"inputs": 6, "targets": 3}
DOCUMENTS = [
    {"inputs": np.arange(3, 3 + i, dtype=np.int32), "targets": np.arange(50, 51 + t)}
    for i, t in ((6, 2), (7, 3), (0, 1), (20, 30))
]


def test_each_feature_is_cut_to_its_own_length():
    made = [AsGiven().example(document, LENGTHS) for document in DOCUMENTS]
    assert [x["inputs"].tolist() for x in made] == [
        [3, 4, 5, 6, 7, 8], [3, 4, 5, 6, 7, 8], [], [3, 4, 5, 6, 7, 8]
    ]  # fmt: skip
    assert [x["targets"].tolist() for x in made] == [
        [50, 51, 52], [50, 51, 52], [50, 51], [50, 51, 52]
    ]  # fmt: skip


def test_sizes_are_those_of_the_examples():
    whole = np.array([[d["inputs"].size, d["targets"].size] for d in DOCUMENTS], np.int32)
    made = [AsGiven().example(document, LENGTHS) for document in DOCUMENTS]
    expected = [[x["inputs"].size, x["targets"].size] for x in made]
    assert AsGiven().sizes(whole, LENGTHS).tolist() == expected


def test_as_a_seqio_step_the_same_examples_come_out():
    """SeqIO itself trims what a task's last step returns, exactly as the objective cuts."""
    spec = {name: tf.TensorSpec([None], tf.int32) for name in AsGiven.features}

    def documents(split, shuffle_files=False, seed=None):
        return tf.data.Dataset.from_generator(lambda: iter(DOCUMENTS), output_signature=spec)

    vocabulary = seqio.PassThroughVocabulary(size=100, eos_id=1)
    task = seqio.Task(
        "given",
        source=seqio.FunctionDataSource(documents, splits=["train"]),
        output_features={name: seqio.Feature(vocabulary, add_eos=False) for name in spec},
        preprocessors=[seqio.CacheDatasetPlaceholder(), AsGiven()],
    )
    dataset = task.get_dataset(LENGTHS, "train", shuffle=False)
    for found, document in zip(dataset.as_numpy_iterator(), DOCUMENTS, strict=True):
        expected = AsGiven().example(document, LENGTHS)
        assert found.keys() == expected.keys()
        for name in expected:
            np.testing.assert_array_equal(found[name], expected[name])


def test_both_features_need_lengths(vocabulary):
    AsGiven().check(LENGTHS, vocabulary)
    with pytest.raises(UserError, match="as_given needs a length for 'inputs'"):
        AsGiven().check({"targets": 3}, vocabulary)

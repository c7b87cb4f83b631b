"""The layouts against SeqIO's own feature converters, value for value."""

import numpy as np
import pytest
import seqio
import tensorflow as tf

from archobj_jax.objectives import DecoderLayout, EncoderDecoderLayout

LENGTHS = {"inputs": 24, "targets": 20}


def make_examples(sizes, seed=0):
    rng = np.random.default_rng(seed)
    return [
        {
            "inputs": rng.integers(2, 100, inputs, dtype=np.int32),
            "targets": rng.integers(2, 100, targets, dtype=np.int32),
        }
        for inputs, targets in sizes
    ]


def converted(converter, examples, lengths):
    """The one row that a SeqIO feature converter makes of the examples."""
    spec = {name: tf.TensorSpec([None], tf.int32) for name in examples[0]}
    dataset = tf.data.Dataset.from_generator(lambda: iter(examples), output_signature=spec)
    rows = list(converter(dataset, lengths).as_numpy_iterator())
    assert len(rows) == 1
    return rows[0]


def assert_agrees(row, reference):
    assert set(reference) <= set(row)
    for name, array in reference.items():
        np.testing.assert_array_equal(row[name], array, err_msg=name)


def assert_agrees_on_tokens(row, reference):
    """Without packing SeqIO lets the first padding position read the last token; we do not."""
    padding = reference["decoder_target_tokens"] == 0
    inputs = reference["decoder_input_tokens"]
    assert np.count_nonzero(inputs[padding]) <= 1
    assert_agrees(row, reference | {"decoder_input_tokens": np.where(padding, 0, inputs)})


PACKED = [(5, 3), (1, 1), (7, 9), (4, 2)]
FULL = [(10, 12), (14, 8)]


@pytest.mark.parametrize("sizes", [PACKED, FULL], ids=["padded", "full"])
def test_packed_encoder_decoder(sizes):
    examples = make_examples(sizes)
    reference = converted(seqio.EncDecFeatureConverter(pack=True), examples, LENGTHS)
    row = EncoderDecoderLayout().row(examples, LENGTHS)
    assert set(row) == set(reference)
    assert_agrees(row, reference)


@pytest.mark.parametrize("sizes", [PACKED, FULL], ids=["padded", "full"])
def test_packed_prefix_lm(sizes):
    examples = make_examples(sizes)
    reference = converted(seqio.PrefixLMFeatureConverter(pack=True), examples, LENGTHS)
    row = DecoderLayout().row(examples, LENGTHS)
    assert set(row) == set(reference)
    assert_agrees(row, reference)


def test_packed_lm():
    lengths = {"targets": 20}
    examples = [{"targets": e["targets"]} for e in make_examples(PACKED)]
    reference = converted(seqio.LMFeatureConverter(pack=True), examples, lengths)
    assert_agrees(DecoderLayout().row(examples, lengths), reference)


@pytest.mark.parametrize(
    ("converter", "layout"),
    [
        (seqio.EncDecFeatureConverter(pack=False), EncoderDecoderLayout()),
        (seqio.PrefixLMFeatureConverter(pack=False), DecoderLayout()),
    ],
    ids=["encoder_decoder", "prefix_lm"],
)
@pytest.mark.parametrize("size", [(5, 3), (24, 20)])
def test_one_plain_example(converter, layout, size):
    examples = make_examples([size])
    reference = converted(converter, examples, LENGTHS)
    assert_agrees_on_tokens(layout.row(examples, LENGTHS), reference)


def test_one_plain_lm_example():
    examples = [{"targets": np.array([3, 9, 1], np.int32)}]
    lengths = {"targets": 5}
    reference = converted(seqio.LMFeatureConverter(pack=False), examples, lengths)
    assert_agrees_on_tokens(DecoderLayout().row(examples, lengths), reference)

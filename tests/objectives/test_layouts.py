import numpy as np
import pytest

from archobj_jax.errors import UserError
from archobj_jax.objectives import DecoderLayout, EncoderDecoderLayout, FullLm, PrefixLm, rng_for

LAYOUTS = pytest.mark.parametrize("layout", [DecoderLayout(), EncoderDecoderLayout()])


def example(targets, inputs=None):
    made = {"targets": np.array(targets, np.int32)}
    if inputs is not None:
        made["inputs"] = np.array(inputs, np.int32)
    return made


TWO = [example([7, 1], inputs=[5, 6]), example([9], inputs=[8])]


def assert_row(row, expected, layout, lengths):
    assert {name: x.tolist() for name, x in row.items()} == expected
    spec = {name: (x.shape, x.dtype) for name, x in row.items()}
    assert spec == layout.spec(lengths)


def test_decoder_row():
    layout, lengths = DecoderLayout(), {"inputs": 4, "targets": 3}
    expected = {
        "decoder_target_tokens": [5, 6, 7, 1, 8, 9, 0],
        "decoder_input_tokens": [0, 5, 6, 7, 0, 8, 0],
        "decoder_loss_weights": [0, 0, 1, 1, 0, 1, 0],
        "decoder_segment_ids": [1, 1, 1, 1, 2, 2, 0],
        "decoder_positions": [0, 1, 2, 3, 0, 1, 0],
        "decoder_causal_attention": [1, 1, 1, 0, 1, 1, 0],
    }
    assert_row(layout.row(TWO, lengths), expected, layout, lengths)


def test_decoder_row_without_inputs():
    layout, lengths = DecoderLayout(), {"targets": 5}
    expected = {
        "decoder_target_tokens": [3, 9, 1, 4, 0],
        "decoder_input_tokens": [0, 3, 9, 0, 0],
        "decoder_loss_weights": [1, 1, 1, 1, 0],
        "decoder_segment_ids": [1, 1, 1, 2, 0],
        "decoder_positions": [0, 1, 2, 0, 0],
        "decoder_causal_attention": [0, 0, 0, 0, 0],
    }
    examples = [example([3, 9, 1]), example([4], inputs=[])]
    assert_row(layout.row(examples, lengths), expected, layout, lengths)


def test_encoder_decoder_row():
    layout, lengths = EncoderDecoderLayout(), {"inputs": 4, "targets": 4}
    expected = {
        "encoder_input_tokens": [5, 6, 8, 0],
        "encoder_segment_ids": [1, 1, 2, 0],
        "encoder_positions": [0, 1, 0, 0],
        "decoder_target_tokens": [7, 1, 9, 0],
        "decoder_input_tokens": [0, 7, 0, 0],
        "decoder_loss_weights": [1, 1, 1, 0],
        "decoder_segment_ids": [1, 1, 2, 0],
        "decoder_positions": [0, 1, 0, 0],
    }
    assert_row(layout.row(TWO, lengths), expected, layout, lengths)


def test_encoder_reads_a_lone_eos_in_place_of_inputs():
    layout, lengths = EncoderDecoderLayout(), {"targets": 3}
    row = layout.row([example([7, 8, 9])], lengths)
    assert row["encoder_input_tokens"].tolist() == [1]
    assert row["encoder_segment_ids"].tolist() == [1]
    assert row["encoder_positions"].tolist() == [0]
    assert row["decoder_target_tokens"].tolist() == [7, 8, 9]
    assert {name: (x.shape, x.dtype) for name, x in row.items()} == layout.spec(lengths)

    packed = EncoderDecoderLayout(eos_id=2).row(
        [example([7]), example([8], inputs=[5, 6]), example([9], inputs=[])],
        {"inputs": 5, "targets": 3},
    )
    assert packed["encoder_input_tokens"].tolist() == [2, 5, 6, 2, 0]
    assert packed["encoder_segment_ids"].tolist() == [1, 2, 2, 3, 0]


@LAYOUTS
def test_no_examples_are_a_row_of_padding(layout):
    row = layout.row([], {"inputs": 4, "targets": 3})
    assert not any(x.any() for x in row.values())


@LAYOUTS
def test_complementary_pairs_fill_their_row(layout, vocabulary):
    lengths = {"inputs": 626, "targets": 626}
    tokens = np.arange(3, 1255)
    row = layout.row(PrefixLm().examples(tokens, rng_for(1, 2), lengths, vocabulary), lengths)
    assert row["decoder_loss_weights"].sum() == 626
    for name, array in row.items():
        if name.endswith("segment_ids"):
            assert set(array.tolist()) == {1, 2}
    if isinstance(layout, DecoderLayout):
        assert row["decoder_target_tokens"].shape == (1252,)
        np.testing.assert_array_equal(row["decoder_target_tokens"], tokens)


@pytest.mark.parametrize(
    ("layout", "examples", "message"),
    [
        (DecoderLayout(), [*TWO, *TWO], r"7 inputs and targets .* \[4, 2, 4, 2\]"),
        (EncoderDecoderLayout(), [example([1], inputs=[3] * 5)], r"4 inputs .* \[5\]"),
        (EncoderDecoderLayout(), [example([3] * 4, inputs=[3])], r"3 targets .* \[4\]"),
    ],
)
def test_a_row_that_does_not_fit_names_the_sizes(layout, examples, message):
    with pytest.raises(ValueError, match=message):
        layout.row(examples, {"inputs": 4, "targets": 3})


def test_examples_fit_if_their_sizes_sum_to_the_room():
    lengths = {"inputs": 4, "targets": 3}
    inputs, targets = np.array([2, 0, 4]), np.array([2, 1, 3], np.int32)
    assert DecoderLayout().room(lengths) == {"inputs and targets": 7}
    assert DecoderLayout().sizes(inputs, targets).tolist() == [[4], [1], [7]]
    assert EncoderDecoderLayout().room(lengths) == lengths
    assert EncoderDecoderLayout().sizes(inputs, targets).tolist() == [[2, 2], [1, 1], [4, 3]]
    for layout in (DecoderLayout(), EncoderDecoderLayout()):
        layout.row([example([7, 1], inputs=[5, 6]), example([9], inputs=[])], lengths)
        with pytest.raises(ValueError, match="room"):
            layout.row([example([9], inputs=[]), example([1, 2, 3], inputs=[3] * 4)], lengths)


@LAYOUTS
def test_unknown_feature_in_lengths(layout):
    with pytest.raises(UserError, match=r"no feature 'input'.* Did you mean 'inputs'"):
        layout.spec({"input": 4, "targets": 3})


def test_an_encoder_needs_a_length_for_inputs():
    EncoderDecoderLayout().check(FullLm.features, {"targets": 8})
    EncoderDecoderLayout().check(PrefixLm.features, {"inputs": 8, "targets": 8})
    DecoderLayout().check(PrefixLm.features, {"targets": 8})
    with pytest.raises(UserError, match=r"encoder-decoder needs a length for 'inputs'"):
        EncoderDecoderLayout().check(PrefixLm.features, {"targets": 8})

"""Contexts and continuations part where a model would read them to part."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archobj_jax.architectures.architecture import CausalDecoder, EncoderDecoder, NonCausalDecoder
from archobj_jax.data.vocabularies import embedded_vocabulary
from archobj_jax.evaluation.boundaries import Boundaries

DECODER = Boundaries.of(embedded_vocabulary(), CausalDecoder.layout)
ENCODER_DECODER = Boundaries.of(embedded_vocabulary(), EncoderDecoder.layout)


@pytest.fixture(scope="module", autouse=True)
def _trained() -> None:
    """The vocabulary is trained when it is used first, for which no example should be timed."""
    DECODER.tokens("the list")


BLANKS = st.text(" \n\t\u00a0\u3000", max_size=3)
WORDS = st.lists(
    st.sampled_from(["return", "the", "list", "Answer:", "yes", "1,234", "naïve", "日本", "x"]),
    min_size=1,
).map(" ".join)
# Also what SentencePiece rewrites or drops: accents, ligatures, zero widths, sentinels, its mark.
TEXT = st.lists(
    st.one_of(
        st.text(max_size=8),
        st.sampled_from(
            [
                " ",
                "  ",
                "\n",
                "ing",
                "do",
                "<extra_id_0>",
                "e",
                "\u0301",
                "ﬁ",
                "\u200b",
                "▁",
                "</s>",
            ]
        ),
    ),
    max_size=8,
).map("".join)


def pieces(tokens: np.ndarray) -> list[str]:
    return [embedded_vocabulary().tokenizer.IdToPiece(int(token)) for token in tokens]


def tokenised(boundaries: Boundaries, context: str, continuation: str) -> tuple[list, list]:
    pair = boundaries.pair(context, continuation)
    return pieces(pair.inputs), pieces(pair.targets)


def test_decoders_read_one_sequence_and_encoder_decoders_two():
    assert DECODER.one_sequence
    assert Boundaries.of(embedded_vocabulary(), NonCausalDecoder.layout).one_sequence
    assert not ENCODER_DECODER.one_sequence


@pytest.mark.parametrize("boundaries", [DECODER, ENCODER_DECODER])
def test_the_blank_before_a_word_is_part_of_the_word(boundaries: Boundaries):
    expected = (["▁a", "▁list", ":"], ["▁the", "▁list"])
    assert tokenised(boundaries, "a list:", " the list") == expected
    assert tokenised(boundaries, "a list: ", "the list") == expected
    assert tokenised(boundaries, "a list:\n\n", "the list") == expected
    assert tokenised(boundaries, "a list:", "  the  list ") == expected


def test_only_a_decoder_goes_on_within_a_word():
    assert tokenised(DECODER, "the list", "s") == (["▁the"], ["▁lists"])
    assert tokenised(DECODER, "the list", ", a") == (["▁the", "▁list"], [",", "▁a"])
    assert tokenised(ENCODER_DECODER, "the list", "s") == (["▁the", "▁list"], ["▁", "s"])


@pytest.mark.parametrize("boundaries", [DECODER, ENCODER_DECODER])
@pytest.mark.parametrize("context", ["", " ", "\n"])
def test_an_empty_context_is_no_inputs(boundaries: Boundaries, context: str):
    assert tokenised(boundaries, context, " the list") == ([], ["▁the", "▁list"])


@given(TEXT, TEXT)
def test_a_decoder_loses_no_token_of_the_whole_text(context: str, continuation: str):
    whole = DECODER.tokens(context + continuation).tolist()
    alone = DECODER.tokens(context.rstrip()).tolist()
    try:
        pair = DECODER.pair(context, continuation)
    except ValueError:
        assert whole == alone[: len(whole)]  # nothing is left of the continuation
        return
    inputs = pair.inputs.tolist()
    assert inputs + pair.targets.tolist() == whole
    assert inputs == alone[: len(inputs)]
    assert inputs == alone or whole[: len(inputs) + 1] != alone[: len(inputs) + 1]


@given(TEXT, TEXT)
def test_an_encoder_decoder_reads_each_text_by_itself(context: str, continuation: str):
    tokens = ENCODER_DECODER.tokens(continuation)
    if not tokens.size:
        with pytest.raises(ValueError, match="no tokens"):
            ENCODER_DECODER.pair(context.rstrip(), continuation)
        return
    pair = ENCODER_DECODER.pair(context.rstrip(), continuation)
    np.testing.assert_array_equal(pair.inputs, ENCODER_DECODER.tokens(context.rstrip()))
    np.testing.assert_array_equal(pair.targets, tokens)


@given(WORDS, BLANKS, BLANKS, WORDS)
def test_after_a_blank_both_read_the_same(context: str, left: str, right: str, continuation: str):
    expected = DECODER.tokens(context).tolist(), DECODER.tokens(continuation).tolist()
    for boundaries in (DECODER, ENCODER_DECODER):
        pair = boundaries.pair(context + left, " " + right + continuation)
        assert (pair.inputs.tolist(), pair.targets.tolist()) == expected


@given(WORDS, WORDS, st.integers(1, 40))
def test_a_long_context_loses_its_beginning(context: str, continuation: str, max_length: int):
    for whole in (DECODER, ENCODER_DECODER):
        full = whole.pair(context, f" {continuation}")
        short = Boundaries(whole.vocabulary, whole.one_sequence, max_length)
        if full.targets.size > max_length:
            with pytest.raises(ValueError, match=f"has {full.targets.size} tokens, at most"):
                short.pair(context, f" {continuation}")
            continue
        pair = short.pair(context, f" {continuation}")
        assert pair.targets.tolist() == full.targets.tolist()
        assert pair.inputs.tolist() == full.inputs.tolist()[pair.dropped :]
        taken = pair.targets.size if whole.one_sequence else 0
        assert pair.inputs.size == min(full.inputs.size, max_length - taken)


@given(WORDS, st.integers(1, 40), st.integers(1, 20))
def test_a_long_prompt_loses_its_beginning(text: str, max_length: int, new_tokens: int):
    for whole in (DECODER, ENCODER_DECODER):
        short = Boundaries(whole.vocabulary, whole.one_sequence, max_length)
        room = max_length - new_tokens * whole.one_sequence
        if room < 1:
            with pytest.raises(ValueError, match=f"{new_tokens} new tokens leave no room"):
                short.prompt(text, new_tokens=new_tokens)
            continue
        tokens, dropped = short.prompt(text, new_tokens=new_tokens)
        assert tokens.tolist() == whole.tokens(text).tolist()[-room:]
        assert dropped == max(whole.tokens(text).size - room, 0)

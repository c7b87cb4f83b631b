import pytest
import seqio
from hypothesis import given, settings
from hypothesis import strategies as st

from archobj_jax.data import vocabularies
from archobj_jax.data.pieces import Pieces
from tests import sentences

EXTRA_IDS = 10


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> seqio.SentencePieceVocabulary:
    path = tmp_path_factory.mktemp("vocabulary") / "some.model"
    path.write_bytes(sentences.model())
    return seqio.SentencePieceVocabulary(str(path), extra_ids=EXTRA_IDS)


@pytest.fixture(scope="module")
def pieces() -> Pieces:
    return Pieces(sentences.model(), EXTRA_IDS)


def test_the_fingerprint_is_that_of_seqio_s(pieces, original):
    assert pieces.fingerprint == vocabularies.fingerprint(original)
    assert pieces.eos_id == original.eos_id == 1
    assert Pieces(sentences.model(), EXTRA_IDS - 1).fingerprint != pieces.fingerprint


@settings(max_examples=50, deadline=None)
@given(text=st.text(max_size=40))
def test_a_text_has_the_ids_of_seqio_s(pieces, original, text):
    text = f"{text} <extra_id_0> the sum {text}"
    assert pieces.encode(text) == original.encode(text)
    assert original.vocab_size - 1 in pieces.encode(text)


@settings(max_examples=50, deadline=None)
@given(ids=st.lists(st.integers(0, 400), max_size=20))
def test_ids_have_the_text_of_seqio_s(pieces, original, ids):
    assert pieces.decode(ids) == original.decode(ids)


@pytest.mark.parametrize("content", [b"", b"no model"])
def test_what_is_no_model_is_refused(content):
    with pytest.raises(ValueError, match="no SentencePiece model"):
        Pieces(content, EXTRA_IDS)

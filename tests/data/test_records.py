import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archobj_jax.data import records

DOCUMENTS = st.lists(st.lists(st.integers(0, 65_535), max_size=40), max_size=10)


@given(DOCUMENTS, st.sampled_from([1 << 16, (1 << 16) + 1]))
def test_decode_returns_what_was_encoded(documents, vocab_size):
    arrays = [np.array(document, np.int32) for document in documents]
    data = records.encode(arrays, records.token_dtype(vocab_size))
    record = records.decode(data)
    assert record.lengths.tolist() == [len(document) for document in documents]
    assert record.tokens.tolist() == [token for document in documents for token in document]
    assert record.tokens.dtype == np.int32


def test_tokens_take_two_bytes_where_the_vocabulary_fits():
    assert records.token_dtype(65_536).itemsize == 2
    assert records.token_dtype(65_537).itemsize == 4


def test_an_id_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="70000 do not fit uint16"):
        records.encode([np.array([5, 70_000])], records.token_dtype(100))


@given(st.integers(0, 200))
def test_a_shortened_record_is_refused(size):
    data = records.encode([np.arange(50), np.arange(30)], records.token_dtype(100))
    with pytest.raises(ValueError, match="bytes"):
        records.decode(data[: min(size, len(data) - 1)])


def test_lengths_that_disagree_with_the_tokens_are_refused():
    data = bytearray(records.encode([np.arange(5)], records.token_dtype(100)))
    struct.pack_into("<I", data, 16, 4)
    with pytest.raises(ValueError, match="documents of 4 tokens in all, expected 5"):
        records.decode(bytes(data))


def test_other_bytes_are_refused():
    with pytest.raises(ValueError, match="not a record"):
        records.decode(bytes(64))

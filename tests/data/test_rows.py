import pickle

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archobj_jax.data import cache, shards
from archobj_jax.data.rows import Rows, TokenStream
from archobj_jax.errors import MachineError, UserError
from tests.data.corpora import register, texts

EOS = 1


@pytest.fixture
def opened(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "RECORD_TOKENS", 300)
    task = register("news", tmp_path)["full_lm"]
    return cache.ensure(task, "train", tmp_path / "cache")


def test_ends_follow_each_document(opened):
    size = sum(map(len, texts(60)))
    bare, ended = TokenStream(opened, None), TokenStream(opened, EOS)
    assert (len(bare), len(ended)) == (size, size + 60)
    whole = ended.read(0, len(ended))
    assert whole.dtype == np.int32
    assert (whole == EOS).sum() == 60
    assert whole[-1] == EOS
    np.testing.assert_array_equal(whole[whole != EOS], bare.read(0, len(bare)))


@given(data=st.data())
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_read_anywhere_is_the_slice_of_the_whole_ring(opened, data):
    stream = TokenStream(opened, EOS)
    whole = np.tile(stream.read(0, len(stream)), 3)
    start = data.draw(st.integers(0, len(stream)))
    count = data.draw(st.integers(1, 2 * len(stream)))
    np.testing.assert_array_equal(stream.read(start, count), whole[start : start + count])


def test_a_pickled_stream_reads_the_same(opened):
    stream = TokenStream(opened, EOS)
    expected = stream.read(500, 700)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(stream)).read(500, 700), expected)


def test_a_damaged_record_is_named(opened):
    shard = opened.manifest.shards[0]
    path = opened.folder / shard.file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    stream = TokenStream(opened, None)
    with pytest.raises(MachineError, match=rf"{shard.file}, record \d+, is damaged.*rm "):
        stream.read(0, len(stream))


def test_a_damaged_index_is_named(opened):
    path = opened.folder / opened.manifest.shards[0].index_file
    np.save(path, np.zeros((3, 2), np.int64))
    with pytest.raises(MachineError, match=rf"index {path} is damaged"):
        TokenStream(opened, None).read(0, 10)


def test_an_epoch_reads_each_token_at_most_once(opened):
    stream = TokenStream(opened, EOS)
    rows = Rows(stream, 97, seed=3)
    assert len(rows) == len(stream) // 97
    whole = stream.read(0, len(stream))
    for epoch in range(3):
        read = np.concatenate([rows.read(epoch, i) for i in range(len(rows))])
        assert not (np.bincount(read) > np.bincount(whole, minlength=read.max() + 1)).any()
    assert len(stream) - len(read) < 97


def test_epochs_are_cut_at_different_places_and_unseeded_ones_at_zero(opened):
    stream = TokenStream(opened, EOS)
    seeded, plain = Rows(stream, 97, seed=3), Rows(stream, 97, seed=None)
    assert len({seeded.read(epoch, 0).tobytes() for epoch in range(5)}) > 1
    np.testing.assert_array_equal(plain.read(4, 2), stream.read(2 * 97, 97))


def test_a_corpus_shorter_than_a_row_is_refused(opened):
    stream = TokenStream(opened, EOS)
    assert len(Rows(stream, len(stream), seed=0)) == 1
    with pytest.raises(UserError, match=r"has [\d,]+ tokens, fewer than the 100,000"):
        Rows(stream, 100_000, seed=0)

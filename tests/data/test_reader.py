import resource

import numpy as np
import pytest

from archobj_jax.data import cache, shards
from archobj_jax.data.rows import TokenStream
from tests.data.corpora import register


@pytest.fixture
def opened(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "RECORD_TOKENS", 300)
    task = register("news", tmp_path)["full_lm"]
    return cache.ensure(task, "train", tmp_path / "cache")


def test_records_that_lie_together_are_what_they_are_one_by_one(opened):
    stream = TokenStream(opened, 1)
    count = opened.manifest.shards[1].records
    assert count > 3
    together = stream.load_records(1, 1, count)
    for number, content in enumerate(together, start=1):
        np.testing.assert_array_equal(content, stream.record(1, number))


def test_a_process_may_open_a_file_for_each_shard(opened):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (258, hard))
    try:
        stream = TokenStream(opened, 1)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 258 + len(stream.shards)
        assert len(stream.read(0, len(stream))) == len(stream)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_index_is_stored_no_wider_than_it_must_be(opened):
    path = opened.folder / opened.manifest.shards[0].index_file
    assert np.load(path).dtype == np.uint16

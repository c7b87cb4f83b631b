import dataclasses
import itertools
import pickle

import numpy as np
import pytest

from archobj_jax.data import block_rows, cache, loader, seeds, shards
from archobj_jax.data.block_rows import BlockRows, Taken
from archobj_jax.data.rows import Rows, TokenStream
from archobj_jax.objectives import DecoderLayout
from tests.data.corpora import register

EOS, WINDOW = 1, 24
UINT16 = np.dtype(np.uint16)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(shards, "RECORD_TOKENS", 300)
    monkeypatch.setattr(block_rows, "SMALL", 1000)
    monkeypatch.setattr(block_rows, "BLOCK_TOKENS", 160)
    monkeypatch.setattr(block_rows, "LANES", 6)


@pytest.fixture
def opened(tmp_path, small_blocks):
    task = register("news", tmp_path)["full_lm"]
    return cache.ensure(task, "train", tmp_path / "cache")


@pytest.fixture
def config(opened, tmp_path):
    cache_dir = str(tmp_path / "cache")
    return loader.DatasetConfig(
        "news_full_lm", {"targets": WINDOW}, "train", 4, cache_dir=cache_dir
    )


def blocks(opened, *, seed=3, taken=None):
    stream = TokenStream(opened, EOS)
    return BlockRows(stream, WINDOW, seed=seed, taken=taken or Taken(4, 4), dtype=UINT16)


def take(config, count, start=0, local_rows=None):
    with loader.train_batches(
        config, DecoderLayout(), start_step=start, local_rows=local_rows
    ) as batches:
        return np.stack([b["decoder_target_tokens"] for b in itertools.islice(batches, count)])


@pytest.mark.parametrize("batch", [1, 3, 4, 4.6, 10_000])
def test_an_epoch_has_the_rows_of_the_stream_once_each(opened, batch):
    made = blocks(opened, taken=Taken(batch, batch))
    rows = Rows(TokenStream(opened, EOS), WINDOW, seeds.named(3, "offset"))
    assert len(made) == len(rows)
    orders = []
    for epoch in (0, 1):
        expected = {rows.read(epoch, i).tobytes() for i in range(len(rows))}
        read = [made.read(epoch, i).astype(np.int32).tobytes() for i in range(len(made))]
        assert len(set(read)) == len(read)
        assert set(read) == expected
        orders.append([made.start(epoch, i) for i in range(len(made))])
    assert orders[0] != orders[1]


def test_a_row_begins_where_it_says(opened):
    made, stream = blocks(opened), TokenStream(opened, EOS)
    for index in range(0, len(made), 7):
        expected = stream.read(made.start(1, index), WINDOW)
        np.testing.assert_array_equal(made.read(1, index), expected)


def test_rows_of_a_batch_and_of_the_next_lie_far_apart(opened):
    made = blocks(opened)
    starts = np.array([made.start(0, i) for i in range(len(made))])
    steps = np.abs(np.diff(starts[: len(starts) // 4 * 4].reshape(-1, 4), axis=1))
    # Of any two rows of a random order, the share within two blocks of each other.
    near = 1 - (1 - 320 / len(made) / WINDOW) ** 2
    assert (steps <= 320).mean() < 2 * near


def test_a_block_is_read_once_and_by_one_host(opened, monkeypatch):
    loads = []
    load = TokenStream.load
    monkeypatch.setattr(
        TokenStream, "load", lambda self, *where: loads.append(where) or load(self, *where)
    )
    hosts = [[0, 1], [2, 3]]
    for local in hosts:
        made = blocks(opened, taken=Taken(4, 2))
        for step in range(len(made) // 4):
            for row in local:
                made.read(0, 4 * step + row)
    count = -(-len(made) // made._rows)
    # Lanes begin and end inside of blocks, which two of them then share.
    assert count <= len(loads) <= count + made._lanes


def test_lanes_open_their_blocks_at_different_steps(opened):
    made = blocks(opened)
    begins = {(lane * made._turns) % made._rows for lane in range(made._lanes)}
    assert len(begins) == min(made._lanes, made._rows)


def test_a_pickled_one_reads_the_same(opened):
    made = blocks(opened)
    expected = [made.read(0, i).tobytes() for i in range(20)]
    again = pickle.loads(pickle.dumps(made))
    assert [again.read(0, i).tobytes() for i in range(20)] == expected


def test_lanes_of_a_mixture_hold_a_nearly_whole_number_of_rows():
    assert block_rows._lanes(2048) == (1, 2048)
    assert block_rows._lanes(128) == (8, 1024)
    rounds, lanes = block_rows._lanes(2048 / 3)
    assert lanes >= block_rows.LANES
    assert lanes == rounds * 2048 / 3


def test_batches_of_a_large_corpus_depend_on_their_step_alone(config):
    whole = take(config, 130)  # more than one epoch
    assert len({row.tobytes() for row in whole.reshape(-1, WINDOW)}) > 0.99 * 4 * 130
    for start in (1, 77, 129):
        np.testing.assert_array_equal(take(config, 130 - start, start), whole[start:])
    parts = [take(config, 130, local_rows=np.array(rows)) for rows in ([0], [1, 2], [3])]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)


def test_workers_that_share_a_batch_give_the_same_rows(config):
    config = dataclasses.replace(config, batch_size=5)  # parts of three rows and of two
    split = dataclasses.replace(config, workers=2, threads=1)
    np.testing.assert_array_equal(take(split, 9, 2), take(config, 9, 2))


def test_a_large_corpus_is_evaluated_in_order(config):
    held = dataclasses.replace(config, batch_size=3)
    (batches,) = loader.eval_batches(held, DecoderLayout(), num_batches=4).values()
    rows = np.concatenate([batch["decoder_target_tokens"] for batch in batches])
    task = loader.components(held, DecoderLayout())[0]
    stream = TokenStream(task.opened, EOS)
    np.testing.assert_array_equal(rows.ravel(), stream.read(0, rows.size))


def test_the_fingerprint_tells_how_a_corpus_is_shuffled(config, monkeypatch):
    large = loader.describe(config, DecoderLayout()).fingerprint
    monkeypatch.setattr(block_rows, "SMALL", 10**6)
    assert loader.describe(config, DecoderLayout()).fingerprint != large

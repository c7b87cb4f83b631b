"""Buckets waste little and are few; batches hold all work, each of one shape."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archobj_jax.inference.batching import batches, bucket

SHAPES = st.lists(st.tuples(st.integers(1, 300).map(bucket), st.integers(0, 60).map(bucket)))


@given(st.integers(8, 100_000))
def test_a_bucket_is_padded_by_less_than_half_its_content(size: int):
    assert size <= bucket(size) < 1.5 * size + 1
    assert bucket(bucket(size)) == bucket(size)


def test_buckets_are_few():
    assert [bucket(size) for size in (0, 1, 9, 13, 17)] == [0, 8, 12, 16, 24]
    assert len({bucket(size) for size in range(8, 2049)}) == 17


@given(SHAPES, st.integers(1, 2000), st.sampled_from([1, 2, 8]))
def test_batches_hold_each_piece_once_and_whole(shapes: list, budget: int, multiple: int):
    made = batches(shapes, tokens=sum, budget=budget, multiple=multiple)
    assert sorted(i for batch in made for i in batch.items) == list(range(len(shapes)))
    for batch in made:
        columns = zip(*(shapes[i] for i in batch.items), strict=True)
        assert batch.shape == tuple(map(max, columns))
        assert len(batch.items) <= batch.rows
        assert batch.rows % multiple == 0
        assert batch.rows == multiple or batch.rows * sum(batch.shape) <= budget


def test_alike_sizes_share_a_batch_and_others_do_not():
    shapes = [(1024, 8)] + [(64, 8)] * 40 + [(48, 12)] * 40
    made = batches(shapes, tokens=sum, budget=2048)
    assert [batch.shape for batch in made] == [(1024, 8), (64, 8), (64, 12), (48, 12)]
    assert [len(batch.items) for batch in made] == [1, 28, 26, 26]


def test_little_work_is_one_shape():
    shapes = [(64, 8), (8, 0), (24, 32), (96, 0)]
    (batch,) = batches(shapes, tokens=sum, budget=2048)
    assert (batch.shape, batch.rows) == ((96, 32), 4)


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (3, 4), (5, 8), (9, 10)])
def test_the_last_batch_is_a_power_of_two_or_full(count: int, rows: int):
    (batch,) = batches([(8,)] * count, tokens=sum, budget=80)
    assert batch.rows == rows

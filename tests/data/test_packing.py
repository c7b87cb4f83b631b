"""What is packed into rows, on lengths alone: no task, no token."""

import dataclasses

import numpy as np
import pytest

from archobj_jax.data import example_store, packing
from archobj_jax.data.packing import Member
from archobj_jax.objectives import AsGiven, DecoderLayout, EncoderDecoderLayout

LENGTHS = {"inputs": 128, "targets": 32}
LAYOUTS = pytest.mark.parametrize("layout", [DecoderLayout(), EncoderDecoderLayout()])


@pytest.fixture(autouse=True)
def lengths_are_the_cache(monkeypatch):
    monkeypatch.setattr(example_store, "lengths", lambda cache: cache)
    monkeypatch.setattr(packing, "MIN_EXAMPLES", 1)


def sizes(count, seed=0, inputs=50.0, targets=7.0):
    """Lengths as prompted tasks have them: log-normal about these medians, some targets long."""
    rng = np.random.default_rng(seed)
    drawn = [rng.lognormal(np.log(median), 0.6, count) for median in (inputs, targets)]
    return np.maximum(np.stack(drawn, axis=1), [0, 1]).astype(np.int32)


def pack(members, layout, seed=0, lengths=LENGTHS):
    return packing.pack(members, AsGiven(), layout, lengths, seed)


def rows_of(packed):
    return np.split(packed.examples, packed.rows[1:-1])


@LAYOUTS
def test_one_task_has_each_example_once(layout):
    packed = pack([Member("a", 1.0, sizes(3000))], layout)
    assert np.sort(packed.examples).tolist() == list(range(3000))
    (task,) = packed.statistics.tasks
    assert (task.examples, task.repeats, task.share) == (3000, 0, 1.0)


@LAYOUTS
def test_rows_hold_what_they_have_room_for(layout):
    members = [Member("a", 1.0, sizes(900)), Member("b", 2.0, sizes(700, 1, 90, 3))]
    packed = pack(members, layout)
    cut = AsGiven().sizes(np.concatenate([m.cache for m in members]), LENGTHS)
    taken = layout.sizes(*cut.T)
    used = np.array([taken[row].sum(axis=0) for row in rows_of(packed)])
    room = np.array(list(layout.room(LENGTHS).values()))
    assert (used <= room).all()
    assert used.min() > 0
    found = packed.statistics
    assert found.rows == len(used)
    assert found.padding == pytest.approx(1 - used.sum() / (len(used) * room.sum()))
    by_side = 1 - used.sum(axis=0) / (len(used) * room)
    assert list(found.padding_by_side.values()) == pytest.approx(by_side.tolist())
    assert found.tokens == cut[packed.examples].sum()


def test_examples_have_the_rates_of_the_mixture_and_all_occur():
    available, rates = (1000, 500, 40), (1.0, 2.0, 0.5)
    members = [
        Member(name, rate, sizes(n, n))
        for name, n, rate in zip("abc", available, rates, strict=True)
    ]
    packed = pack(members, DecoderLayout())
    counts = np.bincount(packed.examples)
    parts = np.split(counts, np.cumsum(available)[:-1])
    assert [part.sum() for part in parts] == [1000, 2000, 500]  # 'a' needs 3,500 for its 1,000
    assert [(part.min(), part.max()) for part in parts] == [(1, 1), (4, 4), (12, 13)]
    shares = [task.share for task in packed.statistics.tasks]
    assert shares == pytest.approx([1 / 3.5, 2 / 3.5, 0.5 / 3.5])
    assert [task.repeats for task in packed.statistics.tasks] == [0, 1500, 460]
    mixed = [len({*np.searchsorted([1000, 1500], row, "right")}) for row in rows_of(packed)]
    assert np.mean(mixed) > 1.3, "rows hold examples of several tasks"


def test_an_epoch_is_neither_tiny_nor_endless(monkeypatch):
    monkeypatch.setattr(packing, "MIN_EXAMPLES", 5000)
    monkeypatch.setattr(packing, "MAX_EXAMPLES", 6000)
    assert packing.counts([10, 10], [1, 1]) == [2500, 2500]
    assert packing.counts([10, 20_000], [1, 1]) == [3000, 3000]
    assert packing.counts([10, 10], [1, 10_000]) == [1, 5999]  # at least one of each
    assert packing.counts([7], [0.1]) == [7]
    assert packing.counts([20_000], [0.1]) == [20_000]


@pytest.mark.parametrize(
    ("layout", "lengths", "bound"),
    [
        (DecoderLayout(), {"inputs": 1024, "targets": 256}, 0.004),
        (DecoderLayout(), {"inputs": 256, "targets": 128}, 0.008),
        (EncoderDecoderLayout(), {"inputs": 1024, "targets": 256}, 0.012),
        (EncoderDecoderLayout(), {"inputs": 256, "targets": 128}, 0.012),
    ],
)
def test_the_side_that_fills_first_has_next_to_no_padding(layout, lengths, bound):
    packed = pack([Member("a", 1.0, sizes(20_000))], layout, lengths=lengths)
    assert min(packed.statistics.padding_by_side.values()) < bound


def test_the_same_arguments_give_the_same_rows_and_another_seed_others():
    members = [Member("a", 1.0, sizes(300)), Member("b", 1.0, sizes(200, 1))]
    one, again, other = (pack(members, DecoderLayout(), seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.examples, again.examples)
    np.testing.assert_array_equal(one.rows, again.rows)
    assert one.statistics == again.statistics
    assert one.examples.tolist() != other.examples.tolist()


def test_rows_come_in_no_order_of_length():
    """A few first rows, an evaluation's, stand for all of them."""
    found = sizes(20_000)
    packed = pack([Member("a", 1.0, found)], DecoderLayout())
    total = found.sum(axis=1)
    first, all_of = packed.examples[: packed.rows[400]], total.mean()
    assert abs(total[first].mean() - all_of) < 0.06 * all_of


def test_windows_of_any_size_place_each_example(monkeypatch):
    monkeypatch.setattr(packing, "WINDOW", 64)
    packed = pack([Member("a", 1.0, sizes(1000))], DecoderLayout())
    assert np.sort(packed.examples).tolist() == list(range(1000))


def test_what_is_cut_is_counted():
    found = np.array([[128, 32], [130, 32], [10, 40], [200, 33], [0, 1]], np.int32)
    (task,) = pack([Member("a", 1.0, found)], DecoderLayout()).statistics.tasks
    assert dataclasses.asdict(task) == {
        "task": "a",
        "available": 5,
        "examples": 5,
        "share": 1.0,
        "repeats": 0,
        "tokens": 128 * 3 + 10 + 32 * 4 + 1,
        "truncated_inputs": 2,
        "cut_inputs": 2 + 72,
        "truncated_targets": 2,
        "cut_targets": 8 + 1,
    }

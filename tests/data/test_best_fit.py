import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archobj_jax.data.best_fit import BestFit


@pytest.mark.parametrize("room", [(40,), (40, 15), (15, 40)])
@given(data=st.data())
def test_no_row_is_overfull(room, data):
    sizes = [data.draw(st.lists(st.tuples(*(st.integers(1, r) for r in room)), max_size=60))]
    sizes = np.array(sizes[0], int).reshape(-1, len(room))
    best = BestFit(room, [1] * len(room))
    placed = np.concatenate([best.place(sizes[:20]), best.place(sizes[20:])])
    used = np.zeros((best.rows, len(room)), int)
    np.add.at(used, placed, sizes)
    assert (used <= room).all()
    assert set(placed) == set(range(best.rows))


def test_the_tightest_row_is_taken():
    best = BestFit([10], [1])
    assert best.place(np.array([[7], [6], [8], [2], [3], [4], [5]])).tolist() == [
        0, 1, 2, 2, 0, 1, 3
    ]  # fmt: skip


def test_both_sides_must_have_room():
    best = BestFit([10, 4], [1, 1])
    assert best.place(np.array([[7, 3], [2, 1], [5, 1], [1, 1], [5, 3]])).tolist() == [
        0, 0, 1, 1, 2
    ]  # fmt: skip


def test_a_row_with_less_room_than_any_example_takes_is_closed():
    best = BestFit([10], [3])
    best.place(np.array([[8], [7]]))
    assert list(best._open) == [3]

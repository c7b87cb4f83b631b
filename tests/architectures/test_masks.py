"""Every mask is the little matrix that its docstring draws; packed rows keep apart."""

import inspect

import jax.numpy as jnp
import numpy as np
import pytest

from archobj_jax.architectures import masks
from archobj_jax.architectures.masks import Places, all_of, any_of


def places(segment, prefix=None) -> Places:
    prefix = None if prefix is None else jnp.asarray([prefix])
    return Places.of(jnp.asarray([segment], jnp.int32), prefix)


def matrix(text: str) -> np.ndarray:
    """The first block of dots and ones in `text`."""
    rows = [line.split() for line in text.splitlines()]
    return np.array(
        [[cell == "1" for cell in row] for row in rows if row and set(row) <= {"1", "."}]
    )


def evaluate(mask: masks.Mask, where: Places) -> np.ndarray:
    allowed = np.asarray(mask(where, where))
    assert allowed.dtype == bool
    return allowed[0]


@pytest.mark.parametrize(
    ("mask", "where"),
    [
        (masks.causal, places([1, 1, 1, 1])),
        (masks.same_segment, places([1, 1, 2, 0])),
        (masks.in_prefix, places([1, 1, 1, 1], [1, 1, 0, 0])),
    ],
)
def test_a_mask_is_the_matrix_of_its_docstring(mask: masks.Mask, where: Places):
    drawn = matrix(mask.__doc__ or "")
    assert drawn.shape == (4, 4)
    np.testing.assert_array_equal(evaluate(mask, where), drawn)


def test_the_prefix_mask_is_the_matrix_of_its_docstring():
    source = inspect.getsource(masks)
    drawn = matrix(source[source.index("PREFIX: Mask") :])
    where = places([1, 1, 1, 1], [1, 1, 0, 0])
    np.testing.assert_array_equal(evaluate(masks.PREFIX, where), drawn)


def test_combinations_are_and_and_or_of_their_parts():
    where = places([1, 1, 2, 0], [1, 1, 1, 0])
    parts = [masks.causal, masks.same_segment, masks.in_prefix]
    made = [evaluate(part, where) for part in parts]
    np.testing.assert_array_equal(evaluate(all_of(*parts), where), np.logical_and.reduce(made))
    np.testing.assert_array_equal(evaluate(any_of(*parts), where), np.logical_or.reduce(made))
    np.testing.assert_array_equal(evaluate(all_of(masks.causal), where), made[0])


def test_packed_rows_keep_apart_and_nothing_sees_padding():
    where = places([1, 1, 1, 2, 2, 2, 0], [1, 1, 0, 1, 1, 0, 0])
    expected = matrix("""
        1 1 . . . . .
        1 1 . . . . .
        1 1 1 . . . .
        . . . 1 1 . .
        . . . 1 1 . .
        . . . 1 1 1 .
        . . . . . . .
    """)
    np.testing.assert_array_equal(evaluate(masks.PREFIX, where), expected)
    causal = expected & np.tri(7, dtype=bool)
    np.testing.assert_array_equal(evaluate(masks.CAUSAL, where), causal)
    both_ways = evaluate(masks.BIDIRECTIONAL, where)
    np.testing.assert_array_equal(both_ways, causal | causal.T)


def test_a_query_alone_against_a_cache_gets_its_row_of_the_whole_mask():
    key = places([1, 1, 1, 1], [1, 1, 0, 0])
    for at in range(4):
        query = Places(
            key.segment[:, at : at + 1], key.offset[:, at : at + 1], key.prefix[:, at : at + 1]
        )
        row = np.asarray(masks.PREFIX(query, key))[0, 0]
        np.testing.assert_array_equal(row, evaluate(masks.PREFIX, key)[at])

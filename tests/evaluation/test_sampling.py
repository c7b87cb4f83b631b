"""What can be drawn, and how often."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from archobj_jax.errors import UserError
from archobj_jax.evaluation.sampling import Sampling

P = np.array([0.05, 0.4, 0.1, 0.25, 0.2])
LOGITS = jnp.log(jnp.asarray(P, jnp.float32))[None]
DRAWS = 4000


def shares(sampling: Sampling, logits=LOGITS) -> np.ndarray:
    """How often each token is drawn."""
    many = jnp.broadcast_to(logits, (DRAWS, logits.shape[-1]))
    drawn = sampling(many, jax.random.key(0))
    assert drawn.dtype == jnp.int32
    return np.bincount(np.asarray(drawn), minlength=logits.shape[-1]) / DRAWS


def test_greedy_is_the_most_likely():
    rows = jnp.asarray([[0.0, 2.0, 1.0], [5.0, 2.0, 1.0]])
    np.testing.assert_array_equal(Sampling()(rows, jax.random.key(0)), [1, 0])
    np.testing.assert_array_equal(
        Sampling(top_k=1, temperature=3.0)(rows, jax.random.key(0)), [1, 0]
    )


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"top_k": 2}, [1, 3]),
        ({"top_k": 9}, [0, 1, 2, 3, 4]),
        ({"top_p": 0.39}, [1]),
        ({"top_p": 0.41}, [1, 3]),
        ({"top_p": 0.84}, [1, 3, 4]),
        ({"top_p": 0.86}, [1, 2, 3, 4]),
        ({"top_p": 0.86, "top_k": 3}, [1, 3, 4]),
    ],
)
def test_only_the_most_likely_are_drawn_in_proportion(options: dict, kept: list[int]):
    made = shares(Sampling(temperature=1.0, **options))
    expected = np.where(np.isin(np.arange(5), kept), P, 0.0)
    np.testing.assert_allclose(made, expected / expected.sum(), atol=0.03)
    assert set(np.flatnonzero(made)) == set(kept)


def test_temperature_divides_logits():
    np.testing.assert_allclose(shares(Sampling(temperature=0.5)), P**2 / (P**2).sum(), atol=0.03)


def test_a_rows_draw_does_not_depend_on_the_others():
    sampling, key = Sampling(temperature=1.0), jax.random.key(1)
    many = jnp.broadcast_to(LOGITS, (6, 5))
    np.testing.assert_array_equal(sampling(many, key)[:3], sampling(many[:3], key))


@pytest.mark.parametrize(
    "options", [{"temperature": -1}, {"top_k": -1}, {"top_p": 0}, {"top_p": 1.1}]
)
def test_a_field_out_of_range_is_refused(options: dict):
    with pytest.raises(UserError, match="Sampling"):
        Sampling(**options)

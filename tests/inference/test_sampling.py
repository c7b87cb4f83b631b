"""What can be drawn, and how often."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from archobj_jax.errors import UserError
from archobj_jax.inference.sampling import Sampling, SamplingState

P = np.array([0.05, 0.4, 0.1, 0.25, 0.2])
LOGITS = jnp.log(jnp.asarray(P, jnp.float32))[None]
DRAWS = 4000


def shares(sampling: Sampling, logits=LOGITS) -> np.ndarray:
    """How often each token is drawn."""
    many = jnp.broadcast_to(logits, (DRAWS, logits.shape[-1]))
    drawn = sampling(many, jax.random.split(jax.random.key(0), DRAWS))
    assert drawn.dtype == jnp.int32
    return np.bincount(np.asarray(drawn), minlength=logits.shape[-1]) / DRAWS


def test_greedy_is_the_most_likely():
    rows = jnp.asarray([[0.0, 2.0, 1.0], [5.0, 2.0, 1.0]])
    keys = jax.random.split(jax.random.key(0), 2)
    for greedy in (Sampling(), Sampling(top_k=1, temperature=3.0)):
        np.testing.assert_array_equal(greedy(rows, keys), [1, 0])


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
        ({"top_p": 0.7, "top_k": 3}, [1, 3, 4]),
        ({"top_p": 0.6, "top_k": 3}, [1, 3]),
    ],
)
def test_only_the_most_likely_are_drawn_in_proportion(options: dict, kept: list[int]):
    made = shares(Sampling(temperature=1.0, **options))
    expected = np.where(np.isin(np.arange(5), kept), P, 0.0)
    np.testing.assert_allclose(made, expected / expected.sum(), atol=0.03)
    assert set(np.flatnonzero(made)) == set(kept)


def test_temperature_divides_logits():
    np.testing.assert_allclose(shares(Sampling(temperature=0.5)), P**2 / (P**2).sum(), atol=0.03)


def test_a_rows_draw_depends_on_its_key_alone():
    sampling, keys = Sampling(temperature=1.0), jax.random.split(jax.random.key(1), 6)
    many = jnp.broadcast_to(LOGITS, (6, 5))
    drawn = sampling(many, keys)
    np.testing.assert_array_equal(drawn[::2], sampling(many[::2], keys[::2]))
    assert len(set(np.asarray(drawn))) > 1


def states(draw: Sampling, limits: list[int], eos_id: int = 9) -> list[SamplingState]:
    """Three steps of two samples a prompt; after the last, row 2 has met a stop string."""
    keys = jax.vmap(jax.random.key)(jnp.arange(len(limits)))
    state = draw.begin(keys, jnp.array(limits), num_samples=2, prompt=0)
    made = [state]
    logits = jnp.broadcast_to(LOGITS, (2 * len(limits), 5))
    for _ in range(3):
        _, state, _ = draw.choose(logits, state, None, eos_id)
        made.append(state)
    return [*made, draw.stop(state, jnp.arange(2 * len(limits)) == 2)]


def test_rows_are_done_at_their_limit_the_end_of_sequence_or_a_stop_string():
    done = [np.asarray(state.done).tolist() for state in states(Sampling(), [0, 5, 2])]
    assert done[0] == [True, True, False, False, False, False]
    assert done[1] == done[0]
    assert done[2] == done[3] == [True, True, False, False, True, True]
    assert done[4] == [True, True, True, False, True, True]
    # Greedy takes token 1 of `LOGITS`.
    assert np.asarray(states(Sampling(), [0, 5, 2], eos_id=1)[1].done).all()


def test_samples_of_a_prompt_have_keys_of_their_own():
    (first, *_), (other, *_) = (states(Sampling(1.0), limits) for limits in ([4, 4], [4]))
    keys = [jax.random.key_data(state.keys).tolist() for state in (first, other)]
    assert len(set(map(tuple, keys[0]))) == 4
    assert keys[1] == keys[0][:2]


@pytest.mark.parametrize(
    "options", [{"temperature": -1}, {"top_k": -1}, {"top_p": 0}, {"top_p": 1.1}]
)
def test_a_field_out_of_range_is_refused(options: dict):
    with pytest.raises(UserError, match="Sampling"):
        Sampling(**options)

"""Token by token, with a cache, gives the logits of reading the whole text at once."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from archobj_jax.architectures.architecture import Architecture
from archobj_jax.architectures.language_model import DecodingState
from tests import tiny

PROMPTS, NEW = (3, 7, 0, 5, 1), 6
WHOLE = [tiny.example(inputs, NEW + 1, seed) for seed, inputs in enumerate(PROMPTS)]


def forced_logits(model: Architecture) -> np.ndarray:
    """[prompts, NEW + 1, V], of the positions that predict each new token."""
    batch = tiny.batch_of(
        model, [[example] for example in WHOLE], {"inputs": 8, "targets": NEW + 1}
    )
    forced = np.asarray(tiny.logits_of(model)(tiny.parameters(model), batch))
    first = np.zeros(len(PROMPTS), int) if model.symbol == "ED" else np.array(PROMPTS)
    return np.stack(
        [row[start : start + NEW + 1] for row, start in zip(forced, first, strict=True)]
    )


def compare(
    model: Architecture,
    *,
    room: int = NEW,
    after: dict[int, Callable[[DecodingState], DecodingState]] | None = None,
    rows: int = 1,
) -> None:
    """Ragged prompts, `rows` of each, then NEW tokens each, against teacher forcing.

    `after` changes the state after so many tokens.
    """
    graphdef, params = nnx.graphdef(model.abstract()), tiny.parameters(model)
    prompts = [{**example, "targets": example["targets"][:1]} for example in WHOLE]
    batch = tiny.batch_of(model, [[e] for e in prompts], {"inputs": 8, "targets": 1})
    capacity = batch["decoder_input_tokens"].shape[1] + room
    start = jax.jit(lambda params, batch: nnx.merge(graphdef, params).start(batch, capacity))
    advance = jax.jit(lambda params, *args: nnx.merge(graphdef, params).advance(*args))
    logits, state = start(params, batch)
    logits, state = jnp.repeat(logits, rows, axis=0), state.repeated(rows)
    forced = np.repeat(forced_logits(model), rows, axis=0)
    for step in range(NEW + 1):
        np.testing.assert_allclose(logits, forced[:, step], atol=1e-4)
        state = (after or {}).get(step, lambda same: same)(state)
        if step < NEW:
            tokens = np.repeat([example["targets"][step] for example in WHOLE], rows)
            logits, state = advance(params, jnp.asarray(tokens, jnp.int32), state)
    read = np.array(PROMPTS) * (model.symbol != "ED") + 1 + NEW
    np.testing.assert_array_equal(state.length, np.repeat(read, rows))


@pytest.mark.parametrize("symbol", tiny.SYMBOLS)
def test_incremental_logits_equal_teacher_forced_ones(symbol: str):
    compare(tiny.SYMBOLS[symbol](tiny.NETWORK))


@pytest.mark.parametrize("positions", ["relative_shared", "rope"])
def test_with_other_positions_and_grouped_queries(positions: str):
    compare(tiny.ND(tiny.network(positions=positions, num_kv_heads=2)))


@pytest.mark.parametrize("symbol", tiny.SYMBOLS)
def test_rows_can_be_repeated_and_given_room_later(symbol: str):
    model = tiny.SYMBOLS[symbol](tiny.network(num_kv_heads=2))
    capacity = (1 if symbol == "ED" else 9) + NEW
    grow = {0: lambda state: state.grown(capacity - 3), 3: lambda state: state.grown(capacity)}
    compare(model, room=0, rows=2, after=grow)


@pytest.mark.parametrize("symbol", tiny.SYMBOLS)
def test_rows_go_on_from_what_others_have_read(symbol: str):
    """Rows read different tokens, then swap: each has the logits of what the other read."""
    model = tiny.SYMBOLS[symbol](tiny.NETWORK)
    graphdef, params = nnx.graphdef(model.abstract()), tiny.parameters(model)
    batch = tiny.batch_of(
        model, [[tiny.example(3, 1)], [tiny.example(5, 1)]], {"inputs": 8, "targets": 1}
    )
    columns = batch["decoder_input_tokens"].shape[1]
    bound = nnx.merge(graphdef, params)
    _, state = bound.start(batch, columns + 3)
    state = state.repeated(2)
    advance = jax.jit(lambda *args: nnx.merge(graphdef, params).advance(*args))
    _, state = advance(jnp.array([7, 8, 9, 10]), state)
    kept, _ = advance(jnp.array([5, 5, 5, 5]), state)
    swapped = state.reordered(jnp.array([[1, 0], [1, 1]]), prompt=columns)
    logits, _ = advance(jnp.array([5, 5, 5, 5]), swapped)
    np.testing.assert_allclose(logits, kept[jnp.array([1, 0, 3, 3])], atol=1e-5)
    assert np.abs(kept[0] - kept[1]).max() > 1e-3

"""Token by token, with a cache, gives the logits of reading the whole text at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests import tiny

PROMPTS, NEW = (3, 7, 5, 1), 6


def compare(model, tolerance: float = 1e-4) -> None:
    """Ragged prompts, then NEW tokens each, against teacher forcing."""
    graphdef = nnx.graphdef(model.abstract())
    params = tiny.parameters(model)
    whole = [tiny.example(inputs, NEW + 1, seed) for seed, inputs in enumerate(PROMPTS)]
    prompts = [{**example, "targets": example["targets"][:1]} for example in whole]
    forced = tiny.logits_of(model)(
        params, tiny.batch_of(model, [[e] for e in whole], {"inputs": 8, "targets": NEW + 1})
    )
    batch = tiny.batch_of(model, [[e] for e in prompts], {"inputs": 8, "targets": 1})
    capacity = batch["decoder_input_tokens"].shape[1] + NEW
    start = jax.jit(lambda params, batch: nnx.merge(graphdef, params).start(batch, capacity))
    advance = jax.jit(lambda params, *args: nnx.merge(graphdef, params).advance(*args))
    logits, state = start(params, batch)
    first = np.zeros(len(PROMPTS), int) if model.symbol == "ED" else np.array(PROMPTS)
    rows = np.arange(len(PROMPTS))
    for step in range(NEW + 1):
        np.testing.assert_allclose(logits, forced[rows, first + step], atol=tolerance)
        if step < NEW:
            tokens = jnp.asarray([example["targets"][step] for example in whole])
            logits, state = advance(params, tokens, state)
    np.testing.assert_array_equal(state.length, first + 1 + NEW)


@pytest.mark.parametrize("symbol", tiny.SYMBOLS)
def test_incremental_logits_equal_teacher_forced_ones(symbol: str):
    compare(tiny.SYMBOLS[symbol](tiny.NETWORK))


@pytest.mark.parametrize("positions", ["relative_shared", "rope"])
def test_with_other_positions_and_grouped_queries(positions: str):
    compare(tiny.ND(tiny.network(positions=positions, num_kv_heads=2)))

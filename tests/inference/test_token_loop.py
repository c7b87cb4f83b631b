"""The compiled loop over tokens."""

import re

import jax
import numpy as np
import pytest

from archobj_jax.inference import token_loop
from archobj_jax.inference.beam import BeamSearch
from archobj_jax.inference.sampling import Sampling
from archobj_jax.inference.token_loop import TokenLoop
from tests import tiny


@pytest.fixture
def whole_compiler():
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.mark.usefixtures("whole_compiler")
@pytest.mark.parametrize("strategy", [Sampling(), BeamSearch(2)])
@pytest.mark.parametrize("symbol", ["CD", "ED"])
def test_a_token_is_written_into_the_cache_in_place(symbol: str, strategy):
    """No operation copies all of the cache, neither for a token nor for a chunk of them."""
    model = tiny.SYMBOLS[symbol](tiny.NETWORK)
    loop = TokenLoop(tiny.blueprint(model), strategy, 1, eos_id=1)
    rows = [[tiny.example(6, 1)], [tiny.example(3, 1)]]
    numbers = {"limits": np.full(2, 9, np.int32), "numbers": np.arange(2, dtype=np.int32)}
    batch = {**tiny.batch_of(model, rows, {"inputs": 7, "targets": 1}), **numbers}
    params = tiny.parameters(model)
    carry, _, _ = jax.eval_shape(
        lambda: token_loop.prefill(loop, params, batch, np.uint32(0), capacity=40)
    )
    stopped = np.zeros(carry.tokens.shape, bool)
    compiled = token_loop.advance.lower(loop, params, carry, stopped, np.int32(4)).compile()
    shape = ",".join(map(str, carry.decoding.cache.own.key.shape))
    made = re.findall(rf" = f32\[{shape}\]\S* ([a-z-]+)\(", compiled.as_text())
    assert "dynamic-update-slice" in made
    in_place = {"dynamic-update-slice", "fusion", "get-tuple-element", "parameter", "bitcast"}
    assert set(made) <= in_place

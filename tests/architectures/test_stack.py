"""The scan over layers is the loop over layers; remat changes nothing; dropout is T5X's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from archobj_jax.architectures.attention_parts import Dropout, Structure
from archobj_jax.architectures.dense_attention import XlaAttention
from archobj_jax.architectures.layers import dropout
from archobj_jax.architectures.masks import BIDIRECTIONAL, PREFIX, Places
from archobj_jax.architectures.network import REMAT_POLICIES
from archobj_jax.architectures.stack import Block, Context
from tests import tiny


def test_the_scan_is_the_loop_over_layers():
    model = tiny.ND(tiny.network(num_decoder_layers=3))
    params, batch = tiny.parameters(model), tiny.two_rows(model)
    bound = tiny.blueprint(model).bind(params)
    block = nnx.eval_shape(
        lambda: Block(model.network, bidirectional=False, reads_memory=False, rngs=nnx.Rngs(0))
    )
    graphdef = nnx.graphdef(block)
    places = Places.of(batch["decoder_segment_ids"], batch["decoder_causal_attention"])
    context = Context(Structure(places, places, mask=PREFIX), bias=None, memory=None)

    @jax.jit
    def layer(params, x):
        return nnx.merge(graphdef, params)(x, None, None, context)[0]

    x = bound.token_embedder(batch["decoder_input_tokens"])
    for index in range(3):
        x = layer(jax.tree.map(lambda p, i=index: p[i], params["decoder"]["layers"]), x)
    logits = bound.unembed(bound.decoder.norm(x))
    np.testing.assert_allclose(tiny.logits_of(model)(params, batch), logits, atol=2e-5)


def test_remat_policies_give_the_same_gradients():
    made, regions = {}, {}
    for policy in REMAT_POLICIES:
        model = tiny.ND(tiny.network(remat_policy=policy, dropout_rate=0.1))
        graphdef = nnx.graphdef(model.abstract())
        params, batch = tiny.parameters(tiny.ND(tiny.NETWORK)), tiny.two_rows(model)

        def loss(params, graphdef=graphdef, batch=batch):
            logits = nnx.merge(graphdef, params)(batch, key=jax.random.key(0))
            return jnp.mean(jax.nn.logsumexp(logits, axis=-1))

        made[policy] = jax.jit(jax.value_and_grad(loss))(params)
        text = str(jax.make_jaxpr(jax.grad(loss))(params))
        regions[policy] = text.count("checkpoint") + text.count("remat")
    # Activations are computed again in any case.
    assert regions["none"] < min(regions[policy] for policy in REMAT_POLICIES if policy != "none")
    for policy in REMAT_POLICIES:
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6),
            made[policy],
            made["none"],
        )


def test_dropout_is_shared_along_the_length_and_keeps_the_mean():
    x = jnp.ones((64, 5, 32))
    made = np.asarray(dropout(x, 0.25, jax.random.key(0)))
    np.testing.assert_array_equal(made, np.broadcast_to(made[:, :1], made.shape))
    np.testing.assert_allclose(np.unique(made), [0.0, 1 / 0.75], rtol=1e-6)
    assert abs((made == 0).mean() - 0.25) < 0.03
    np.testing.assert_array_equal(made, dropout(x, 0.25, jax.random.key(0)))
    assert (made != np.asarray(dropout(x, 0.25, jax.random.key(1)))).any()
    assert dropout(x, 0.0, jax.random.key(0)) is x
    assert dropout(x, 0.25, None) is x


def test_dropout_of_attention_is_shared_by_all_queries():
    # Values are one-hot of the key, so that the result is the attention probabilities themselves.
    keys = 6
    where = Places.of(jnp.ones((2, keys), jnp.int32))
    query = jnp.asarray(np.random.default_rng(0).normal(size=(2, keys, 3, keys)), jnp.float32)
    value = jnp.broadcast_to(jnp.eye(keys)[None, :, None], (2, keys, 3, keys))
    structure = Structure(where, where, mask=BIDIRECTIONAL)

    def attend(drop: Dropout | None) -> np.ndarray:
        made = XlaAttention()(query, query, value, structure=structure, bias=None, dropout=drop)
        return np.asarray(made)

    whole = attend(None)
    np.testing.assert_allclose(whole.sum(-1), 1.0, rtol=1e-5)
    factor = attend(Dropout(key=jax.random.key(2), rate=0.5)) / whole
    np.testing.assert_allclose(np.unique(factor.round(5)), [0.0, 2.0], atol=1e-4)
    np.testing.assert_allclose(factor, np.broadcast_to(factor[:, :1], factor.shape), atol=1e-4)
    assert (factor[0] != factor[1]).any()


@pytest.mark.parametrize("symbol", ["CD", "ED"])
def test_a_models_dropout_follows_its_key_and_its_rate(symbol: str):
    model = tiny.SYMBOLS[symbol](tiny.network(dropout_rate=0.3))
    params, batch = tiny.parameters(tiny.SYMBOLS[symbol](tiny.NETWORK)), tiny.two_rows(model)
    logits = tiny.logits_of(model)
    first, again, other = (logits(params, batch, jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-2
    none = tiny.logits_of(tiny.SYMBOLS[symbol](tiny.NETWORK))
    expected = none(params, batch)
    np.testing.assert_array_equal(logits(params, batch), expected)
    np.testing.assert_array_equal(none(params, batch, jax.random.key(0)), expected)

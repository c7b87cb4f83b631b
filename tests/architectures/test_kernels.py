"""Attention kernels are chosen by name; what one cannot do ends the build, not the numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from archobj_jax.architectures import attention_kernels
from archobj_jax.architectures.attention_kernels import kernel_for
from archobj_jax.architectures.attention_parts import MASKED_LOGIT, Dropout, Structure
from archobj_jax.architectures.chunked_attention import ChunkedAttention
from archobj_jax.architectures.dense_attention import XlaAttention
from archobj_jax.architectures.masks import CAUSAL, Places
from archobj_jax.architectures.network import NetworkConfig
from archobj_jax.errors import UserError
from tests import tiny

DENSE = XlaAttention()
# Of two rows of 5 places: all at once, one row at a time, two of four heads, a head at a time.
CHUNKED = [ChunkedAttention(n) for n in (2**20, 4 * 100, 4 * 50, 1)]
ALL = pytest.mark.parametrize("attention", [DENSE, *CHUNKED], ids=["xla", "c", "c1", "c2", "c3"])


class NoBias(XlaAttention):
    def unsupported(self, config: NetworkConfig) -> str | None:
        return "relative positions" if config.positions.startswith("relative") else None


@pytest.fixture
def no_bias(monkeypatch):
    kernels = {**attention_kernels.KERNELS, "no_bias": NoBias()}
    monkeypatch.setattr(attention_kernels, "KERNELS", kernels)


def test_an_unknown_kernel_is_named_with_the_nearest():
    with pytest.raises(UserError, match=r"attention_kernel = 'xls'.*Did you mean 'xla'"):
        kernel_for(tiny.network(attention_kernel="xls"))


@pytest.mark.usefixtures("no_bias")
def test_what_a_kernel_cannot_do_is_an_error_when_the_model_is_built():
    with pytest.raises(UserError, match="'no_bias' cannot do relative positions"):
        tiny.CD(tiny.network(attention_kernel="no_bias")).abstract()
    tiny.CD(tiny.network(attention_kernel="no_bias", positions="rope")).abstract()


@ALL
def test_attention_is_the_softmax_over_what_is_allowed(attention):
    rng = np.random.default_rng(0)
    query, key, value = (rng.normal(size=(1, 4, 2, 3)).astype(np.float32) for _ in range(3))
    bias = rng.normal(size=(1, 2, 4, 4)).astype(np.float32)
    where = Places.of(jnp.asarray([[1, 1, 2, 0]]))
    made = attention(
        *map(jnp.asarray, (query, key, value)),
        structure=Structure(where, where, mask=CAUSAL),
        bias=jnp.asarray(bias),
        dropout=None,
    )
    reads = [[0], [0, 1], [2], [0, 1, 2, 3]]  # padding reads everything, uniformly
    for place, keys in enumerate(reads):
        for head in range(2):
            logits = query[0, place, head] @ key[0, keys, head].T + bias[0, head, place, keys]
            weights = np.exp(logits) / np.exp(logits).sum()
            if place == 3:
                weights = np.full(4, 0.25)
            np.testing.assert_allclose(
                made[0, place, head], weights @ value[0, keys, head], rtol=1e-5, atol=1e-6
            )


@ALL
@pytest.mark.parametrize("bias_rows", [None, 1, 2])
@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_gradients_are_those_of_the_formula(attention, bias_rows: int | None, rate: float):
    rng = np.random.default_rng(0)

    def drawn(*shape: int) -> jax.Array:
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    arrays = {"query": drawn(2, 5, 4, 3), "key": drawn(2, 5, 2, 3), "value": drawn(2, 5, 2, 3)}
    if bias_rows:
        arrays["bias"] = drawn(bias_rows, 4, 5, 5)
    where = Places.of(jnp.asarray([[1, 1, 2, 2, 0], [1, 1, 1, 0, 0]]))
    structure = Structure(where, where, mask=CAUSAL)
    dropout = Dropout(jax.random.key(1), rate) if rate else None
    weights = drawn(2, 5, 4, 3)

    def formula(query, key, value, bias=0.0):
        key, value = (jnp.repeat(x, 2, axis=2) for x in (key, value))
        logits = jnp.einsum("blhk,bshk->bhls", query, key) + bias
        logits = jnp.where(structure.allowed()[:, None], logits, MASKED_LOGIT)
        p = jax.nn.softmax(logits)
        if rate:
            p *= jax.random.bernoulli(jax.random.key(1), 1 - rate, (2, 4, 1, 5)) / (1 - rate)
        return jnp.einsum("bhls,bshk->blhk", p, value)

    def kernel(query, key, value, bias=None):
        return attention(query, key, value, structure=structure, bias=bias, dropout=dropout)

    def gradients(function):
        return jax.jit(jax.grad(lambda a: jnp.sum(weights * jnp.sin(function(**a)))))(arrays)

    made, expected = gradients(kernel), gradients(formula)
    for name in arrays:
        np.testing.assert_allclose(made[name], expected[name], rtol=1e-5, atol=1e-6, err_msg=name)

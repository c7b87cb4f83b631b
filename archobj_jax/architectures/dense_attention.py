"""Attention by plain products with a dense mask: what the other kernels are tested against."""

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from archobj_jax.architectures.attention_parts import (
    MASKED_LOGIT,
    Dropout,
    Structure,
    dropped,
    grouped,
    product,
)
from archobj_jax.architectures.network import ATTENDED, NetworkConfig
from archobj_jax.architectures.products import stored, sum_of_rows, transposed_product
from archobj_jax.shapes import Array, Bool, Float, checked


class XlaAttention:
    """Plain einsums with a dense mask; does everything."""

    def unsupported(self, config: NetworkConfig) -> str | None:
        """Nothing is unsupported."""
        del config
        return None

    @checked
    def __call__(
        self,
        query: Float[Array, "B L H K"],
        key: Float[Array, "B S G K"],
        value: Float[Array, "B S G K"],
        *,
        structure: Structure,
        bias: Float[Array, "_ H L S"] | None,
        dropout: Dropout | None,
    ) -> Float[Array, "B L H K"]:
        """See `AttentionKernel`. H/G query heads in a row share a key-value head."""
        heads, source = query.shape[2], key.shape[1]
        kept = None
        if dropout is not None:
            kept = dropout.kept(query.shape[0], heads, source)
        query, key, value = (jnp.swapaxes(x, 1, 2) for x in (query, key, value))
        mixed = _attend(query, key, value, bias, structure.allowed()[:, None], kept)
        return jnp.swapaxes(mixed, 1, 2)


@jax.custom_vjp
def _attend(
    query: Float[Array, "B H L K"],
    key: Float[Array, "B G S K"],
    value: Float[Array, "B G S K"],
    bias: Float[Array, "_ H L S"] | None,
    allowed: Bool[Array, "_ 1 L S"],
    kept: Float[Array, "B H 1 S"] | None,
) -> Float[Array, "B H L K"]:
    """Plain attention. `kept` multiplies the probabilities (dropout)."""
    return _attend_forward(query, key, value, bias, allowed, kept)[0]


_Residuals = tuple[Array, Array, Array, Array | None, Array, Array | None, Array, Array]


def _attend_forward(
    query: Array,
    key: Array,
    value: Array,
    bias: Array | None,
    allowed: Array,
    kept: Array | None,
) -> tuple[Array, _Residuals]:
    logits = product(query, key, 3).reshape(*query.shape[:3], key.shape[2])
    if bias is not None:
        parts = logits.reshape(bias.shape[0], -1, *bias.shape[1:])
        logits = (parts + bias[:, None].astype(jnp.float32)).reshape(logits.shape)
    logits = jnp.where(allowed, logits, MASKED_LOGIT)
    weights = jax.nn.softmax(logits, axis=-1)
    mixed = product(dropped(weights, kept).astype(value.dtype), value, 2)
    mixed = checkpoint_name(mixed.reshape(query.shape).astype(value.dtype), ATTENDED)
    return mixed, (query, key, value, bias, allowed, kept, weights, mixed)


def _attend_backward(
    residuals: _Residuals, gradient: Array
) -> tuple[Array, Array, Array, Array | None, None, None]:
    """From the probabilities alone, of all that there is of each query and key.

    With P the probabilities and dP their gradient, that of the logits is P (dP - sum(P dP)), and
    sum(P dP) over the keys is sum(output . its gradient) over the head (Dao et al. 2022, appendix
    B.2).
    """
    query, key, value, bias, allowed, kept, weights, mixed = residuals
    groups = key.shape[1]
    of_value = transposed_product(
        grouped(dropped(weights, kept).astype(value.dtype), groups),
        grouped(gradient, groups),
        batch_dims=2,
    )
    of_weights = dropped(product(gradient, value, 3).reshape(weights.shape), kept)
    through = jnp.sum(
        gradient.astype(jnp.float32) * mixed.astype(jnp.float32), axis=-1, keepdims=True
    )
    of_logits = jnp.where(allowed, weights * (of_weights - through), 0.0)
    of_logits = stored(of_logits)
    of_bias = None
    if bias is not None:
        of_bias = _of_bias(of_logits, bias.shape[0]).astype(bias.dtype)
    of_logits = of_logits.astype(query.dtype)
    of_query = product(of_logits, key, 2).reshape(query.shape).astype(query.dtype)
    of_key = transposed_product(grouped(of_logits, groups), grouped(query, groups), batch_dims=2)
    return of_query, of_key, of_value, of_bias, None, None


_attend.defvjp(_attend_forward, _attend_backward)


def _of_bias(of_logits: Array, rows: int) -> Array:
    if rows == 1:
        return sum_of_rows(of_logits)
    return jnp.sum(of_logits.reshape(rows, -1, *of_logits.shape[1:]), axis=1)

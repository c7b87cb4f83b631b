"""Interchangeable computations of attention. `xla` is the reference the others are tested against.

A kernel gets projected queries, keys and values, the structure of who may attend to whom, and a
position bias; it decides itself whether a dense mask ever exists. What it cannot do it says in
`unsupported`, which is asked when the model is built.
"""

from collections.abc import Mapping
from typing import Protocol

import jax
import jax.numpy as jnp
from flax import struct

from archobj_jax.architectures.masks import Mask, MaskArray, Places
from archobj_jax.architectures.network import NetworkConfig
from archobj_jax.architectures.products import stored, sum_of_rows, transposed_product
from archobj_jax.errors import UserError, did_you_mean
from archobj_jax.shapes import Array, Bool, Float, PRNGKey, checked

MASKED_LOGIT = -1e10
"""Where attention is not allowed; finite as T5's, so that a padding row attends uniformly."""


@struct.dataclass
class Structure:
    """Who may attend to whom: a mask, and the places of queries and keys it is a function of."""

    query: Places
    key: Places
    mask: Mask = struct.field(pytree_node=False)

    def allowed(self) -> MaskArray:
        """The dense mask [B, L, S], for kernels that want one."""
        return self.mask(self.query, self.key)


@struct.dataclass
class Dropout:
    """Dropout of attention probabilities, shared by all queries as T5X has it."""

    key: PRNGKey
    rate: float = struct.field(pytree_node=False)


class AttentionKernel(Protocol):
    """Computes attention: softmax(query . key + bias, where allowed) . value.

    It is differentiated in query, key, value and bias (which has one row or one for each of the
    batch, or is None). In decoding L differs from S and keys may be empty places; a query that may
    attend to nothing attends to all keys alike. Dropout is the same for all queries.
    """

    def unsupported(self, config: NetworkConfig) -> str | None:
        """What of `config` this kernel cannot do, or None."""

    def __call__(
        self,
        query: Float[Array, "B L H K"],
        key: Float[Array, "B S G K"],
        value: Float[Array, "B S G K"],
        *,
        structure: Structure,
        bias: Float[Array, "#B H L S"] | None,
        dropout: Dropout | None,
    ) -> Float[Array, "B L H K"]:
        """Attends; the softmax is float32, the result has the dtype of `value`."""


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
            kept = _kept(dropout, (query.shape[0], heads, 1, source))
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
    logits = _product(query, key, 3).reshape(*query.shape[:3], key.shape[2])
    if bias is not None:
        logits = logits + bias.astype(jnp.float32)
    logits = jnp.where(allowed, logits, MASKED_LOGIT)
    weights = jax.nn.softmax(logits, axis=-1)
    mixed = _product(_dropped(weights, kept).astype(value.dtype), value, 2)
    mixed = mixed.reshape(query.shape).astype(value.dtype)
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
        _grouped(_dropped(weights, kept).astype(value.dtype), groups),
        _grouped(gradient, groups),
        batch_dims=2,
    )
    of_weights = _dropped(_product(gradient, value, 3).reshape(weights.shape), kept)
    through = jnp.sum(
        gradient.astype(jnp.float32) * mixed.astype(jnp.float32), axis=-1, keepdims=True
    )
    of_logits = jnp.where(allowed, weights * (of_weights - through), 0.0)
    of_logits = stored(of_logits)
    of_bias = None
    if bias is not None:
        rows = sum_of_rows(of_logits) if bias.shape[0] == 1 else of_logits
        of_bias = rows.astype(bias.dtype)
    of_logits = of_logits.astype(query.dtype)
    of_query = _product(of_logits, key, 2).reshape(query.shape).astype(query.dtype)
    of_key = transposed_product(_grouped(of_logits, groups), _grouped(query, groups), batch_dims=2)
    return of_query, of_key, of_value, of_bias, None, None


_attend.defvjp(_attend_forward, _attend_backward)


def _grouped(x: Array, groups: int) -> Array:
    """[B, H, L, …] to [B, G, H / G * L, …]."""
    return x.reshape(x.shape[0], groups, -1, *x.shape[3:])


def _product(x: Array, shared: Array, contracted: int) -> Float[Array, "B G _ _"]:
    """Products of `x` [B, H, L, _], by its last dimension, with what groups of heads share."""
    x = _grouped(x, shared.shape[1])
    dimensions = (((3,), (contracted,)), ((0, 1), (0, 1)))
    return jax.lax.dot_general(x, shared, dimensions, preferred_element_type=jnp.float32)


def _dropped(x: Array, kept: Array | None) -> Array:
    return x if kept is None else x * kept


def _kept(dropout: Dropout, shape: tuple[int, ...]) -> Array:
    keep = 1.0 - dropout.rate
    return jax.random.bernoulli(dropout.key, keep, shape) / keep


KERNELS: Mapping[str, AttentionKernel] = {"xla": XlaAttention()}


def kernel_for(config: NetworkConfig) -> AttentionKernel:
    """The kernel that `config` names.

    Raises:
      UserError: there is none of that name, or it cannot do what `config` asks.
    """
    name = config.attention_kernel
    if name not in KERNELS:
        raise UserError(
            f"NetworkConfig.attention_kernel = {name!r}: must be one of {', '.join(KERNELS)}."
            + did_you_mean(name, KERNELS)
        )
    kernel = KERNELS[name]
    if (missing := kernel.unsupported(config)) is not None:
        raise UserError(f"NetworkConfig.attention_kernel = {name!r} cannot do {missing}.")
    return kernel

"""A stack of scanned layers: the encoder, the decoder, and the decoder that reads an encoder."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx, struct

from archobj_jax.architectures.attention import Attention, KeyValues
from archobj_jax.architectures.attention_kernels import Structure
from archobj_jax.architectures.layers import MlpBlock, RMSNorm, dropout, split_key
from archobj_jax.architectures.masks import BIDIRECTIONAL, Places
from archobj_jax.architectures.network import NetworkConfig
from archobj_jax.architectures.parameters import stack_layers
from archobj_jax.architectures.positions import RelativePositionBias
from archobj_jax.partitioning.rules import constrain
from archobj_jax.shapes import Array, Float, PRNGKey, checked

_REMAT: dict[str, Any] = {
    "minimal": jax.checkpoint_policies.checkpoint_dots_with_no_batch_dims,
    "full": None,
}
ACTIVATION_AXES = ("batch", "length", "activation_embed")


@struct.dataclass
class Memory:
    """What a decoder reads of an encoder: its output [B, S, D] and where its tokens stand."""

    encoded: Float[Array, "B S D"]
    places: Places


@struct.dataclass
class LayerCache:
    """Keys and values of a layer, or with a leading axis N of all: its own, and the memory's."""

    own: KeyValues
    memory: KeyValues | None


@struct.dataclass
class Context:
    """What all layers of a stack share while it runs."""

    structure: Structure
    bias: Float[Array, "_ H L S"] | None
    memory: Memory | None


class Block(nnx.Module):
    """A pre-norm layer: self-attention, attention to a memory if there is one, feed-forward."""

    def __init__(
        self, config: NetworkConfig, *, bidirectional: bool, reads_memory: bool, rngs: nnx.Rngs
    ):
        self.config = config

        def norm() -> RMSNorm:
            return RMSNorm(config.emb_dim, dtype=config.compute_dtype, rngs=rngs)

        self.relpos_bias = nnx.data(None)
        if config.positions == "relative_per_layer":
            self.relpos_bias = relative_positions(config, bidirectional=bidirectional, rngs=rngs)
        self.pre_self_attention_layer_norm = norm()
        self.self_attention = Attention(config, rotary=config.positions == "rope", rngs=rngs)
        self.reads_memory = reads_memory
        if reads_memory:
            self.pre_cross_attention_layer_norm = norm()
            self.encoder_decoder_attention = Attention(config, rotary=False, rngs=rngs)
        self.pre_mlp_layer_norm = norm()
        self.mlp = MlpBlock(config, rngs=rngs)

    @checked
    def __call__(
        self,
        x: Float[Array, "B L D"],
        cache: LayerCache | None,
        key: PRNGKey | None,
        context: Context,
    ) -> tuple[Float[Array, "B L D"], LayerCache | None]:
        """Runs the layer; with a cache, its tokens' keys and values are added to it."""
        keys = split_key(key, 6)
        rate = self.config.dropout_rate
        structure = context.structure

        normed = self.pre_self_attention_layer_norm(x)
        own = self.self_attention.keys_values(normed, structure.query.offset)
        if cache is not None:
            own = cache.own.write(own, structure.query.offset)
            cache = LayerCache(own=own, memory=cache.memory)
        bias = context.bias
        if self.relpos_bias is not None:
            bias = self.relpos_bias(structure.query, structure.key, x.dtype)
        y = self.self_attention(normed, own, structure=structure, bias=bias, key=keys[0])
        x = x + dropout(y, rate, keys[1])

        if self.reads_memory:
            y = self._read_memory(self.pre_cross_attention_layer_norm(x), cache, keys[2], context)
            x = x + dropout(y, rate, keys[3])

        y = self.mlp(self.pre_mlp_layer_norm(x), keys[4])
        return constrain(x + dropout(y, rate, keys[5]), ACTIVATION_AXES), cache

    def _read_memory(
        self, x: Array, cache: LayerCache | None, key: PRNGKey | None, context: Context
    ) -> Array:
        assert context.memory is not None
        places = context.memory.places
        memory = self.memory_keys_values(context.memory) if cache is None else cache.memory
        assert memory is not None
        structure = Structure(context.structure.query, places, mask=BIDIRECTIONAL)
        return self.encoder_decoder_attention(x, memory, structure=structure, bias=None, key=key)

    def memory_keys_values(self, memory: Memory) -> KeyValues:
        """The memory projected to this layer's keys and values."""
        return self.encoder_decoder_attention.keys_values(memory.encoded, memory.places.offset)


class Stack(nnx.Module):
    """N layers under one scan, from embedded tokens to normed hidden states."""

    def __init__(
        self,
        config: NetworkConfig,
        num_layers: int,
        *,
        bidirectional: bool,
        reads_memory: bool,
        rngs: nnx.Rngs,
    ):
        self.config = config
        self.num_layers = num_layers
        self.layers = stack_layers(
            lambda layer_rngs: Block(
                config, bidirectional=bidirectional, reads_memory=reads_memory, rngs=layer_rngs
            ),
            num_layers,
            rngs=rngs,
        )
        self.relpos_bias = nnx.data(None)
        if config.positions == "relative_shared":
            self.relpos_bias = relative_positions(config, bidirectional=bidirectional, rngs=rngs)
        self.norm = RMSNorm(config.emb_dim, dtype=config.compute_dtype, rngs=rngs)

    @checked
    def __call__(
        self,
        embedded: Float[Array, "B L D"],
        structure: Structure,
        *,
        memory: Memory | None = None,
        cache: LayerCache | None = None,
        key: PRNGKey | None = None,
    ) -> tuple[Float[Array, "B L D"], LayerCache | None]:
        """Runs all layers; `key` drives dropout, `cache` (leading axis N) is read and extended."""
        keys = split_key(key, 3)
        rate = self.config.dropout_rate
        bias = None
        if self.relpos_bias is not None:
            bias = self.relpos_bias(structure.query, structure.key, embedded.dtype)
        context = Context(structure=structure, bias=bias, memory=memory)
        layer_keys = None if keys[0] is None else jax.random.split(keys[0], self.num_layers)
        x = constrain(dropout(embedded, rate, keys[1]), ACTIVATION_AXES)

        def layer(
            block: Block,
            x: Array,
            cache: LayerCache | None,
            key: PRNGKey | None,
            context: Context,
        ) -> tuple[Array, LayerCache | None]:
            return block(x, cache, key, context)

        if self.config.remat_policy != "none":
            policy = _REMAT[self.config.remat_policy]
            layer = nnx.remat(layer, prevent_cse=False, policy=policy)
        scan = nnx.scan(layer, in_axes=(0, nnx.Carry, 0, 0, None), out_axes=(nnx.Carry, 0))
        x, cache = scan(self.layers, x, cache, layer_keys, context)
        return dropout(self.norm(x), rate, keys[2]), cache

    def empty_cache(self, batch: int, length: int, *, memory: Memory | None) -> LayerCache:
        """A cache for `length` tokens a row, with the memory (if any) already projected."""
        config = self.config
        shape = (self.num_layers, batch, length, config.kv_heads, config.head_dim)
        zeros = jnp.zeros(shape, config.compute_dtype)
        projected = None
        if memory is not None:
            project = nnx.scan(
                lambda block, memory: block.memory_keys_values(memory),
                in_axes=(0, None),
                out_axes=0,
            )
            projected = project(self.layers, memory)
        return LayerCache(own=KeyValues(key=zeros, value=zeros), memory=projected)


def relative_positions(
    config: NetworkConfig, *, bidirectional: bool, rngs: nnx.Rngs
) -> RelativePositionBias:
    """The T5 relative-position table of `config`."""
    return RelativePositionBias(
        num_heads=config.num_heads,
        num_buckets=config.relative_buckets,
        max_distance=config.relative_max_distance,
        bidirectional=bidirectional,
        rngs=rngs,
    )

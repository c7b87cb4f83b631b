"""A stack of scanned layers: the encoder, the decoder, and the decoder that reads an encoder."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx, struct
from jax.ad_checkpoint import checkpoint_name

from archobj_jax.architectures.attention import Attention, CachedKeyValues, KeyValues
from archobj_jax.architectures.attention_parts import Structure
from archobj_jax.architectures.layers import MlpBlock, RMSNorm, dropout, split_key
from archobj_jax.architectures.masks import BIDIRECTIONAL, Places
from archobj_jax.architectures.network import ATTENDED, NetworkConfig
from archobj_jax.architectures.parameters import stack_layers
from archobj_jax.architectures.positions import RelativePositionBias
from archobj_jax.partitioning.rules import constrain
from archobj_jax.shapes import Array, Float, Int, PRNGKey, checked

_REMAT: dict[str, Any] = {
    "minimal": jax.checkpoint_policies.checkpoint_dots_with_no_batch_dims,
    "attention": jax.checkpoint_policies.save_only_these_names(ATTENDED),
    "full": None,
}
ACTIVATION_AXES = ("batch", "length", "activation_embed")


@struct.dataclass
class Memory:
    """What a decoder reads of an encoder: its output [B, S, D] and where its tokens stand."""

    encoded: Float[Array, "B S D"]
    places: Places

    def repeated(self, times: int) -> "Memory":
        """Every row so many times, one after the other."""
        return Memory(jnp.repeat(self.encoded, times, axis=0), self.places.repeated(times))

    def constrained(self) -> "Memory":
        """The same, laid on the mesh by the active rules."""
        return Memory(constrain(self.encoded, ACTIVATION_AXES), self.places.gathered())


@struct.dataclass
class Cache:
    """What all layers keep of what was read.

    Attributes:
      own: keys and values of the stack's own tokens, with room for S of them.
      memory: keys and values of the memory, if there is one.
      filled: columns of `own` that hold tokens or padding; the next tokens go behind them.
    """

    own: CachedKeyValues
    memory: CachedKeyValues | None
    filled: Int[Array, ""]

    def extended(self, new: KeyValues, layer: Int[Array, ""]) -> tuple[KeyValues, "Cache"]:
        """With `new` tokens of one layer: what the layer has now, and the cache."""
        own = self.own.write(new, layer, self.filled)
        return own.layer(layer), dataclasses.replace(self, own=own)

    def repeated(self, times: int) -> "Cache":
        """Every row so many times, one after the other."""
        memory = None if self.memory is None else self.memory.repeated(times)
        return dataclasses.replace(self, own=self.own.repeated(times), memory=memory)

    def grown(self, length: int) -> "Cache":
        """With room for `length` tokens a row."""
        return dataclasses.replace(self, own=self.own.grown(length))

    def reordered(self, parents: Int[Array, "P K"], *, prompt: int) -> "Cache":
        """See `DecodingState.reordered`; the memory is the same in all rows of a prompt."""
        return dataclasses.replace(self, own=self.own.reordered(parents, prompt=prompt))

    def constrained(self) -> "Cache":
        """The same, laid on the mesh by the active rules."""
        memory = None if self.memory is None else self.memory.constrained()
        return dataclasses.replace(self, own=self.own.constrained(), memory=memory)


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
        cache: Cache | None,
        key: PRNGKey | None,
        context: Context,
        layer: Int[Array, ""] | None = None,
    ) -> tuple[Float[Array, "B L D"], Cache | None]:
        """Runs the layer; with a cache, its tokens' keys and values are added at index `layer`."""
        keys = split_key(key, 6)
        rate = self.config.dropout_rate
        structure = context.structure

        normed = self.pre_self_attention_layer_norm(x)
        own = self.self_attention.keys_values(normed, structure.query.offset)
        if cache is not None:
            assert layer is not None
            own, cache = cache.extended(own, layer)
        bias = context.bias
        if self.relpos_bias is not None:
            bias = self.relpos_bias(structure.query, structure.key, x.dtype)
        y = self.self_attention(normed, own, structure=structure, bias=bias, key=keys[0])
        x = checkpoint_name(x + dropout(y, rate, keys[1]), ATTENDED)

        if self.reads_memory:
            memory = self._memory(cache, layer, context)
            normed = self.pre_cross_attention_layer_norm(x)
            y = self._read_memory(normed, memory, keys[2], context)
            x = checkpoint_name(x + dropout(y, rate, keys[3]), ATTENDED)

        y = self.mlp(self.pre_mlp_layer_norm(x), keys[4])
        return constrain(x + dropout(y, rate, keys[5]), ACTIVATION_AXES), cache

    def _memory(self, cache: Cache | None, layer: Array | None, context: Context) -> KeyValues:
        if cache is None:
            assert context.memory is not None
            return self.memory_keys_values(context.memory)
        assert cache.memory is not None
        assert layer is not None
        return cache.memory.layer(layer)

    def _read_memory(
        self, x: Array, memory: KeyValues, key: PRNGKey | None, context: Context
    ) -> Array:
        assert context.memory is not None
        places = context.memory.places
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
        cache: Cache | None = None,
        key: PRNGKey | None = None,
    ) -> tuple[Float[Array, "B L D"], Cache | None]:
        """Runs all layers; `key` drives dropout, `cache` is read and extended."""
        keys = split_key(key, 3)
        rate = self.config.dropout_rate
        bias = None
        if self.relpos_bias is not None:
            bias = self.relpos_bias(structure.query, structure.key, embedded.dtype)
        structure = dataclasses.replace(structure, key=structure.key.gathered())
        if memory is not None:
            memory = dataclasses.replace(memory, places=memory.places.gathered())
        context = Context(structure=structure, bias=bias, memory=memory)
        layer_keys = None if keys[0] is None else jax.random.split(keys[0], self.num_layers)
        x = constrain(dropout(embedded, rate, keys[1]), ACTIVATION_AXES)

        # The cache is carried, so that each layer updates it in place; as an input and output of
        # the scan, all of it would be copied for every token.
        def run(
            block: Block,
            carry: tuple[Array, Cache | None],
            key: PRNGKey | None,
            context: Context,
            layer: Array | None,
        ) -> tuple[Array, Cache | None]:
            return block(*carry, key, context, layer)

        if self.config.remat_policy != "none":
            policy = _REMAT[self.config.remat_policy]
            run = nnx.remat(run, prevent_cse=False, policy=policy)
        scan = nnx.scan(run, in_axes=(0, nnx.Carry, 0, None, 0), out_axes=nnx.Carry)
        layers = None if cache is None else jnp.arange(self.num_layers)
        x, cache = scan(self.layers, (x, cache), layer_keys, context, layers)
        if cache is not None:
            cache = dataclasses.replace(cache, filled=cache.filled + embedded.shape[1])
        return dropout(self.norm(x), rate, keys[2]), cache

    def empty_cache(self, batch: int, length: int, *, memory: Memory | None) -> Cache:
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
            projected = CachedKeyValues.of(project(self.layers, memory))
        own = CachedKeyValues.of(KeyValues(key=zeros, value=zeros))
        return Cache(own=own, memory=projected, filled=jnp.zeros((), jnp.int32))


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

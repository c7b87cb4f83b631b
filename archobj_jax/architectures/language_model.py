"""The language models: one API over a decoder alone, and an encoder with a decoder.

A batch is a mapping of arrays named as SeqIO's feature converters name them (see
`objectives.layouts`): decoder_input_tokens, decoder_segment_ids, decoder_causal_attention, and for
the encoder-decoder encoder_input_tokens, encoder_segment_ids.
"""

import abc
import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp
from flax import nnx, struct

from archobj_jax.architectures.attention_kernels import Structure
from archobj_jax.architectures.layers import Dense, TokenEmbedder, split_key
from archobj_jax.architectures.masks import BIDIRECTIONAL, CAUSAL, Mask, Places
from archobj_jax.architectures.network import NetworkConfig
from archobj_jax.architectures.parameters import MLP
from archobj_jax.architectures.stack import LayerCache, Memory, Stack
from archobj_jax.partitioning.rules import constrain
from archobj_jax.shapes import Array, Float, Int, PRNGKey, checked

Batch = Mapping[str, Array]


@struct.dataclass
class DecodingState:
    """What incremental decoding keeps between tokens.

    Attributes:
      cache: keys and values of all layers, room for S tokens a row.
      places: where the cached tokens stand, [B, S]; segment 0 where there is none yet.
      length: tokens read so far in each row.
      memory: the encoder's output, if there is an encoder.
    """

    cache: LayerCache
    places: Places
    length: Int[Array, "B"]
    memory: Memory | None


class LanguageModel(nnx.Module, abc.ABC):
    """Embeds, runs the decoder (which may read an encoder), and projects to logits."""

    def __init__(self, config: NetworkConfig, *, mask: Mask, reads_memory: bool, rngs: nnx.Rngs):
        self.config = config
        self.mask = mask
        self.token_embedder = TokenEmbedder(config, rngs=rngs)
        self.decoder = Stack(
            config,
            config.num_decoder_layers,
            bidirectional=False,
            reads_memory=reads_memory,
            rngs=rngs,
        )
        self.logits_dense = nnx.data(None)
        if not config.logits_via_embedding:
            shape, axes = (config.emb_dim, config.vocab_size), ("embed", "vocab")
            self.logits_dense = Dense(shape, axes, MLP, dtype=jnp.dtype("float32"), rngs=rngs)

    @abc.abstractmethod
    def memory(self, batch: Batch, key: PRNGKey | None) -> Memory | None:
        """What the decoder reads besides its own tokens."""

    def hidden(self, batch: Batch, *, key: PRNGKey | None = None) -> Float[Array, "B T D"]:
        """Final hidden states of the decoder; `key` drives dropout, no key means none."""
        memory_key, decoder_key = split_key(key, 2)
        places = _decoder_places(batch)
        hidden, _ = self.decoder(
            self.token_embedder(batch["decoder_input_tokens"]),
            Structure(places, places, mask=self.mask),
            memory=self.memory(batch, memory_key),
            key=decoder_key,
        )
        return hidden

    @checked
    def unembed(self, hidden: Float[Array, "B L D"]) -> Float[Array, "B L V"]:
        """Logits in float32."""
        if self.logits_dense is None:
            logits = self.token_embedder.attend(hidden)
        else:
            logits = self.logits_dense(hidden)
        return constrain(logits, ("batch", "length", "vocab"))

    def __call__(self, batch: Batch, *, key: PRNGKey | None = None) -> Float[Array, "B T V"]:
        """Teacher-forced logits, float32: position t predicts decoder_target_tokens[:, t]."""
        return self.unembed(self.hidden(batch, key=key))

    def start(self, batch: Batch, capacity: int) -> tuple[Float[Array, "B V"], DecodingState]:
        """Reads prompts of any lengths (one example a row, padded right) into a cache.

        Args:
          batch: decoder_input_tokens [B, P] end with the last token of the prompt; see
            `objectives.layouts` for how a prompt becomes a row.
          capacity: tokens a row can come to hold, prompt included; at least P.

        Returns:
          The logits that predict the first new token of each row, and the state to go on from.
        """
        tokens = batch["decoder_input_tokens"]
        rows, prompt = tokens.shape
        query = _decoder_places(batch)
        room = ((0, 0), (0, capacity - prompt))
        places = Places(
            segment=jnp.pad(query.segment, room),
            offset=jnp.arange(capacity, dtype=jnp.int32)[None, :],
            prefix=jnp.pad(query.prefix, room),
        )
        memory = self.memory(batch, None)
        length = jnp.sum(query.segment > 0, axis=1, dtype=jnp.int32)
        cache = self.decoder.empty_cache(rows, capacity, memory=memory)
        hidden, cache = self._decode(tokens, query, places, memory, cache)
        last = jnp.take_along_axis(hidden, (length - 1)[:, None, None], axis=1)
        state = DecodingState(cache=cache, places=places, length=length, memory=memory)
        return self.unembed(last)[:, 0], state

    @checked
    def advance(
        self, tokens: Int[Array, "B"], state: DecodingState
    ) -> tuple[Float[Array, "B V"], DecodingState]:
        """Reads one more token a row; returns the logits that predict the next one."""
        offset = state.length[:, None]
        rows = jnp.arange(tokens.shape[0])
        places = dataclasses.replace(
            state.places, segment=state.places.segment.at[rows, state.length].set(1)
        )
        ones = jnp.ones_like(offset)
        query = Places(segment=ones, offset=offset, prefix=jnp.zeros_like(ones, bool))
        hidden, cache = self._decode(tokens[:, None], query, places, state.memory, state.cache)
        state = dataclasses.replace(state, cache=cache, places=places, length=state.length + 1)
        return self.unembed(hidden)[:, 0], state

    def _decode(
        self,
        tokens: Array,
        query: Places,
        places: Places,
        memory: Memory | None,
        cache: LayerCache,
    ) -> tuple[Array, LayerCache]:
        hidden, extended = self.decoder(
            self.token_embedder(tokens),
            Structure(query, places, mask=self.mask),
            memory=memory,
            cache=cache,
        )
        assert extended is not None
        return hidden, extended


class DecoderModel(LanguageModel):
    """A decoder alone. Causal and non-causal ones differ in nothing but the mask."""

    def __init__(self, config: NetworkConfig, *, mask: Mask, rngs: nnx.Rngs):
        super().__init__(config, mask=mask, reads_memory=False, rngs=rngs)

    def memory(self, batch: Batch, key: PRNGKey | None) -> None:
        """None: there is no encoder."""
        del batch, key


class EncoderDecoderModel(LanguageModel):
    """A bidirectional encoder, and a causal decoder that reads it."""

    def __init__(self, config: NetworkConfig, *, rngs: nnx.Rngs):
        super().__init__(config, mask=CAUSAL, reads_memory=True, rngs=rngs)
        self.encoder = Stack(
            config,
            config.num_encoder_layers,
            bidirectional=True,
            reads_memory=False,
            rngs=rngs,
        )

    def memory(self, batch: Batch, key: PRNGKey | None) -> Memory:
        """Encodes encoder_input_tokens [B, S]."""
        places = Places.of(batch["encoder_segment_ids"])
        encoded, _ = self.encoder(
            self.token_embedder(batch["encoder_input_tokens"]),
            Structure(places, places, mask=BIDIRECTIONAL),
            key=key,
        )
        return Memory(encoded=encoded, places=places)


def _decoder_places(batch: Batch) -> Places:
    return Places.of(batch["decoder_segment_ids"], batch.get("decoder_causal_attention"))

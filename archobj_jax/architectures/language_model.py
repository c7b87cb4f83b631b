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

from archobj_jax.architectures.attention_parts import Structure
from archobj_jax.architectures.layers import Dense, OutputProjection, TokenEmbedder, split_key
from archobj_jax.architectures.masks import BIDIRECTIONAL, CAUSAL, Mask, Places
from archobj_jax.architectures.network import NetworkConfig
from archobj_jax.architectures.parameters import MLP
from archobj_jax.architectures.stack import Cache, Memory, Stack
from archobj_jax.partitioning.rules import constrain
from archobj_jax.shapes import Array, Float, Int, PRNGKey, checked

Batch = Mapping[str, Array]


@struct.dataclass
class DecodingState:
    """What incremental decoding keeps between tokens.

    Attributes:
      cache: keys and values of all layers, room for S tokens a row. All rows have their new
        tokens in the same columns, behind the longest prompt.
      places: where the tokens in the columns stand, [B, S]; segment 0 where there is none.
      length: tokens read so far in each row.
      memory: the encoder's output, if there is an encoder.
    """

    cache: Cache
    places: Places
    length: Int[Array, "B"]
    memory: Memory | None

    def repeated(self, times: int) -> "DecodingState":
        """Every row so many times, one after the other, for several continuations of a prompt."""
        return DecodingState(
            cache=self.cache.repeated(times),
            places=self.places.repeated(times),
            length=jnp.repeat(self.length, times, axis=0),
            memory=None if self.memory is None else self.memory.repeated(times),
        )

    def grown(self, capacity: int) -> "DecodingState":
        """With room for `capacity` tokens a row."""
        return dataclasses.replace(
            self, cache=self.cache.grown(capacity), places=self.places.padded(capacity)
        )

    def reordered(self, parents: Int[Array, "P K"], *, prompt: int) -> "DecodingState":
        """Row k of the K that continue prompt p goes on from what row `parents[p, k]` has read.

        Args:
          parents: rows of the same prompt.
          prompt: columns of the prompts, which are the same in all rows of a prompt.
        """
        return dataclasses.replace(self, cache=self.cache.reordered(parents, prompt=prompt))

    def constrained(self) -> "DecodingState":
        """The same, laid on the mesh by the active rules."""
        return DecodingState(
            cache=self.cache.constrained(),
            places=self.places.gathered(),
            length=constrain(self.length, ("batch",)),
            memory=None if self.memory is None else self.memory.constrained(),
        )


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

    def output(self) -> OutputProjection:
        """What makes logits of the final hidden states."""
        if self.logits_dense is None:
            return OutputProjection(self.token_embedder.embedding[...], tied=True)
        return OutputProjection(self.logits_dense.kernel[...], tied=False)

    def unembed(self, hidden: Float[Array, "B L D"]) -> Float[Array, "B L V"]:
        """Logits in float32."""
        return constrain(self.output()(hidden), ("batch", "length", "vocab"))

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
        query = _decoder_places(batch)
        memory = self.memory(batch, None)
        length = jnp.sum(query.segment > 0, axis=1, dtype=jnp.int32)
        cache = self.decoder.empty_cache(tokens.shape[0], capacity, memory=memory)
        hidden, cache = self._decode(tokens, query, query.padded(capacity), memory, cache)
        last = jnp.take_along_axis(hidden, (length - 1)[:, None, None], axis=1)
        # From here on rows have offsets of their own.
        offset = jnp.broadcast_to(query.offset, query.segment.shape)
        places = dataclasses.replace(query, offset=offset).padded(capacity)
        state = DecodingState(cache=cache, places=places, length=length, memory=memory)
        return self.unembed(last)[:, 0], state

    @checked
    def advance(
        self, tokens: Int[Array, "B"], state: DecodingState
    ) -> tuple[Float[Array, "B V"], DecodingState]:
        """Reads one more token a row; returns the logits that predict the next one."""
        offset = state.length[:, None]
        ones = jnp.ones_like(offset)
        query = Places(segment=ones, offset=offset, prefix=jnp.zeros_like(ones, bool))
        logits, state = self.extend(tokens[:, None], query, state)
        return logits[:, 0], dataclasses.replace(state, length=state.length + 1)

    @checked
    def extend(
        self, tokens: Int[Array, "B L"], query: Places, state: DecodingState
    ) -> tuple[Float[Array, "B L V"], DecodingState]:
        """Reads tokens into the next columns of the cache, wherever `query` says that they stand.

        Several continuations of a prompt are read at once if `query` says which branch each token
        is of; a token sees the prompt and what is before it in its own branch.

        Returns:
          For each token the logits that predict the next one; and the state, whose `length` does
          not count these tokens.
        """
        places = state.places.written(query, state.cache.filled)
        hidden, cache = self._decode(tokens, query, places, state.memory, state.cache)
        return self.unembed(hidden), dataclasses.replace(state, cache=cache, places=places)

    def _decode(
        self,
        tokens: Array,
        query: Places,
        places: Places,
        memory: Memory | None,
        cache: Cache,
    ) -> tuple[Array, Cache]:
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

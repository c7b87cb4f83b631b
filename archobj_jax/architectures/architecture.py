"""The architecture axis: causal decoder, non-causal decoder, encoder-decoder.

An architecture is what a run chooses by gin (`MODEL`): a network configuration, a mask, and the
layout that turns examples into its arrays. `build` makes the model.
"""

import abc
import dataclasses
from typing import ClassVar

from flax import nnx

from archobj_jax.architectures.language_model import (
    DecoderModel,
    EncoderDecoderModel,
    LanguageModel,
)
from archobj_jax.architectures.masks import CAUSAL, PREFIX
from archobj_jax.architectures.network import NetworkConfig
from archobj_jax.errors import UserError
from archobj_jax.objectives.layouts import DecoderLayout, EncoderDecoderLayout, Layout


@dataclasses.dataclass(frozen=True)
class Architecture(abc.ABC):
    """One value of the architecture axis.

    Attributes:
      network: dimensions and choices of the network.
      symbol: the paper's abbreviation.
      layout: how a row's examples become model arrays.
    """

    network: NetworkConfig
    symbol: ClassVar[str]
    layout: ClassVar[Layout]

    @abc.abstractmethod
    def build(self, rngs: nnx.Rngs) -> LanguageModel:
        """Makes the model; `rngs.params` seeds its parameters."""

    def abstract(self) -> LanguageModel:
        """The model with shapes in place of arrays; allocates nothing."""
        return nnx.eval_shape(lambda: self.build(nnx.Rngs(params=0)))


@dataclasses.dataclass(frozen=True)
class CausalDecoder(Architecture):
    """CD: every token attends to those before it."""

    symbol = "CD"
    layout = DecoderLayout()

    def build(self, rngs: nnx.Rngs) -> LanguageModel:
        """A decoder with the causal mask."""
        return DecoderModel(self.network, mask=CAUSAL, rngs=rngs)


@dataclasses.dataclass(frozen=True)
class NonCausalDecoder(Architecture):
    """ND, prefix LM: bidirectional over the inputs, causal after them. Parameters are CD's."""

    symbol = "ND"
    layout = DecoderLayout()

    def build(self, rngs: nnx.Rngs) -> LanguageModel:
        """A decoder with the prefix mask."""
        return DecoderModel(self.network, mask=PREFIX, rngs=rngs)


@dataclasses.dataclass(frozen=True)
class EncoderDecoder(Architecture):
    """ED: an encoder reads the inputs, a decoder that attends to it writes the targets."""

    symbol = "ED"
    layout = EncoderDecoderLayout()

    def __post_init__(self) -> None:
        if self.network.num_encoder_layers < 1:
            raise UserError(
                "NetworkConfig.num_encoder_layers = 0: an encoder-decoder needs at least 1."
            )

    def build(self, rngs: nnx.Rngs) -> LanguageModel:
        """An encoder and a decoder."""
        return EncoderDecoderModel(self.network, rngs=rngs)

"""The dimensions and choices of a network, shared by all architectures."""

import dataclasses
from typing import Literal, get_args

import jax.numpy as jnp

from archobj_jax.architectures.activations import ACTIVATIONS
from archobj_jax.errors import UserError, did_you_mean

Positions = Literal["relative_per_layer", "relative_shared", "rope", "none"]
RematPolicy = Literal["none", "minimal", "attention", "full"]

POSITIONS: tuple[str, ...] = get_args(Positions)
REMAT_POLICIES: tuple[str, ...] = get_args(RematPolicy)
DTYPES = ("float32", "bfloat16")

ATTENDED = "attended"
"""What remat policy "attention" keeps, by `checkpoint_name`: outputs of attention, their sums with
the residual stream, and the kernel between the two as it was gathered."""


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """Dimensions and choices of a network. Field names are T5X's where T5X has the field.

    Attributes:
      vocab_size: V, rows of the embedding table; at least the vocabulary's size, padded to a
        multiple of 128 so that it divides over a mesh.
      emb_dim: D.
      num_heads: H, query heads.
      head_dim: K.
      mlp_dim: F.
      num_decoder_layers: N of the decoder.
      num_encoder_layers: N of the encoder; decoder-only architectures have none and ignore it.
      num_kv_heads: G, key-value heads; None is H (multi-head), fewer is grouped-query attention.
      mlp_activations: one input projection each, multiplied: ("gelu", "linear") is GEGLU,
        ("silu", "linear") is SwiGLU, ("relu",) the plain feed-forward. gelu is the tanh form.
      positions: "relative_per_layer" (T5 buckets, a table in every layer: the study's decoder),
        "relative_shared" (one table a stack: T5's), "rope", or "none".
      logits_via_embedding: tied input and output embeddings, logits scaled by 1/sqrt(D).
      dropout_rate: of embeddings, residuals, feed-forward and attention probabilities.
      dtype: of activations; parameters, norm statistics, softmax and logits are float32.
      remat_policy: what the backward pass recomputes: "none" only norms and activations,
        "minimal" all but projections (attention is computed again), "attention" all but attention
        with its last projection's kernel, "full" all of each layer.
      attention_kernel: a name in `attention_kernels.KERNELS`.

    Raises:
      UserError: a field is out of range or names an unknown choice.
    """

    vocab_size: int
    emb_dim: int
    num_heads: int
    head_dim: int
    mlp_dim: int
    num_decoder_layers: int
    num_encoder_layers: int = 0
    num_kv_heads: int | None = None
    mlp_activations: tuple[str, ...] = ("gelu", "linear")
    positions: Positions = "relative_per_layer"
    relative_buckets: int = 32
    relative_max_distance: int = 128
    logits_via_embedding: bool = True
    dropout_rate: float = 0.0
    dtype: str = "float32"
    remat_policy: RematPolicy = "none"
    attention_kernel: str = "xla"

    def __post_init__(self) -> None:
        object.__setattr__(self, "mlp_activations", tuple(self.mlp_activations))
        for field in ("vocab_size", "emb_dim", "num_heads", "head_dim", "mlp_dim"):
            if getattr(self, field) < 1:
                raise UserError(
                    f"NetworkConfig.{field} = {getattr(self, field)}: must be positive."
                )
        if self.num_decoder_layers < 1 or self.num_encoder_layers < 0:
            raise UserError(
                "NetworkConfig.num_decoder_layers must be positive and num_encoder_layers not "
                f"negative; they are {self.num_decoder_layers} and {self.num_encoder_layers}."
            )
        if self.num_heads % self.kv_heads:
            raise UserError(
                f"NetworkConfig.num_kv_heads = {self.kv_heads} must divide "
                f"num_heads = {self.num_heads}."
            )
        if not 0.0 <= self.dropout_rate < 1.0:
            raise UserError(f"NetworkConfig.dropout_rate = {self.dropout_rate}: must be in [0, 1).")
        if self.positions == "rope" and self.head_dim % 2:
            raise UserError(f"NetworkConfig.head_dim = {self.head_dim}: rope needs an even one.")
        if self.relative_buckets < 4:
            raise UserError(
                f"NetworkConfig.relative_buckets = {self.relative_buckets}: must be at least 4."
            )
        if self.relative_max_distance <= self.relative_buckets // 2:
            raise UserError(
                f"NetworkConfig.relative_max_distance = {self.relative_max_distance}: must exceed "
                f"half of relative_buckets = {self.relative_buckets}, which are exact offsets."
            )
        self._check_choice("positions", self.positions, POSITIONS)
        self._check_choice("remat_policy", self.remat_policy, REMAT_POLICIES)
        self._check_choice("dtype", self.dtype, DTYPES)
        for activation in self.mlp_activations:
            self._check_choice("mlp_activations", activation, tuple(ACTIVATIONS))

    @staticmethod
    def _check_choice(field: str, value: str, choices: tuple[str, ...]) -> None:
        if value not in choices:
            raise UserError(
                f"NetworkConfig.{field} = {value!r}: must be one of {', '.join(choices)}."
                + did_you_mean(str(value), choices)
            )

    @property
    def kv_heads(self) -> int:
        """G, key-value heads."""
        return self.num_heads if self.num_kv_heads is None else self.num_kv_heads

    @property
    def compute_dtype(self) -> jnp.dtype:
        """The dtype of activations."""
        return jnp.dtype(self.dtype)

"""Cross-entropy with z-loss and label smoothing, as T5X computes them, always in float32."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from flax import struct

from archobj_jax.errors import UserError
from archobj_jax.shapes import Array, Float, Int, checked

NORMALIZATIONS = ("sum", "tokens")


@struct.dataclass
class TokenLosses:
    """Losses of each target token, unweighted, float32.

    Attributes:
      total: what is minimised: cross-entropy, smoothed if so configured, plus z-loss.
      z_loss: the z-loss part.
      correct: whether the most likely token is the target.
    """

    total: Float[Array, "B T"]
    z_loss: Float[Array, "B T"]
    correct: Float[Array, "B T"]


@dataclasses.dataclass(frozen=True)
class Loss:
    """What training minimises.

    Attributes:
      z_loss: c of c * log(Z)^2, which keeps logits from drifting (1e-4 in the study).
      label_smoothing: share of the target's probability that the other tokens get.
      normalization: of the sum over weighted tokens before gradients are taken: "sum" leaves it
        (T5X's way, Adafactor does not mind), "tokens" divides by the batch's sum of loss weights
        (what AdamW and Muon want).
    """

    z_loss: float = 1e-4
    label_smoothing: float = 0.0
    normalization: str = "sum"

    def __post_init__(self) -> None:
        if self.normalization not in NORMALIZATIONS:
            raise UserError(
                f"Loss.normalization = {self.normalization!r}: must be one of "
                f"{', '.join(NORMALIZATIONS)}."
            )
        if not 0.0 <= self.label_smoothing < 1.0:
            raise UserError(f"Loss.label_smoothing = {self.label_smoothing}: must be in [0, 1).")

    @checked
    def token_losses(
        self, logits: Float[Array, "B T V"], targets: Int[Array, "B T"]
    ) -> TokenLosses:
        """Losses of each target.

        With smoothing s the target distribution q has 1-s on the target and s/(V-1) elsewhere, and
        q's entropy is subtracted, so that a perfect prediction costs 0 (T5X's
        `compute_weighted_cross_entropy`).
        """
        logits = logits.astype(jnp.float32)
        log_z = jax.nn.logsumexp(logits, axis=-1)
        target_logit = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
        vocab_size, s = logits.shape[-1], self.label_smoothing
        cross_entropy = log_z - target_logit
        if s:
            low = s / (vocab_size - 1)
            expected_logit = (1 - s - low) * target_logit + low * jnp.sum(logits, axis=-1)
            entropy = -((1 - s) * math.log(1 - s) + (vocab_size - 1) * low * math.log(low + 1e-20))
            cross_entropy = log_z - expected_logit - entropy
        z_loss = self.z_loss * jnp.square(log_z)
        correct = (jnp.argmax(logits, axis=-1) == targets).astype(jnp.float32)
        return TokenLosses(total=cross_entropy + z_loss, z_loss=z_loss, correct=correct)

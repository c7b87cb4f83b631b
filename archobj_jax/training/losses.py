"""Cross-entropy with z-loss and label smoothing, as T5X computes them, always in float32."""

import dataclasses
import functools
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
      correct: whether no token is likelier than the target.
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
      chunk_bytes: of logits, about how many a device has at a time; memory falls with it, numbers
        do not change but for rounding.
    """

    z_loss: float = 1e-4
    label_smoothing: float = 0.0
    normalization: str = "sum"
    chunk_bytes: int = 2**26

    def __post_init__(self) -> None:
        if self.normalization not in NORMALIZATIONS:
            raise UserError(
                f"Loss.normalization = {self.normalization!r}: must be one of "
                f"{', '.join(NORMALIZATIONS)}."
            )
        if self.chunk_bytes < 1:
            raise UserError(f"Loss.chunk_bytes = {self.chunk_bytes}: must be at least 1.")
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
        return _token_losses(self, logits.astype(jnp.float32), targets)

    def smoothed(self, vocab_size: int) -> tuple[float, float]:
        """The target distribution: what all tokens have, and what the target has beyond that."""
        low = self.label_smoothing / (vocab_size - 1)
        return low, 1.0 - self.label_smoothing - low


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _token_losses(loss: Loss, logits: Array, targets: Array) -> TokenLosses:
    return _token_losses_forward(loss, logits, targets)[0]


_Residuals = tuple[Array, Array, Array]


def _token_losses_forward(
    loss: Loss, logits: Array, targets: Array
) -> tuple[TokenLosses, _Residuals]:
    largest = jnp.max(logits, axis=-1)
    log_z = largest + jnp.log(jnp.sum(jnp.exp(logits - largest[..., None]), axis=-1))
    target_logit = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    cross_entropy = log_z - target_logit
    if s := loss.label_smoothing:
        vocab_size = logits.shape[-1]
        low, more = loss.smoothed(vocab_size)
        expected_logit = more * target_logit + low * jnp.sum(logits, axis=-1)
        entropy = -((1 - s) * math.log(1 - s) + (vocab_size - 1) * low * math.log(low + 1e-20))
        cross_entropy = log_z - expected_logit - entropy
    z_loss = loss.z_loss * jnp.square(log_z)
    made = TokenLosses(
        total=cross_entropy + z_loss,
        z_loss=z_loss,
        correct=(target_logit == largest).astype(jnp.float32),
    )
    return made, (logits, targets, log_z)


def _token_losses_backward(
    loss: Loss, residuals: _Residuals, gradient: TokenLosses
) -> tuple[Array, None]:
    """d cross_entropy / d logits = p - q and d log_z / d logits = p, where p = softmax(logits).

    What autodiff derives from the same formulas keeps the exponentials as well, and scatters.
    """
    logits, targets, log_z = residuals
    low, more = loss.smoothed(logits.shape[-1])
    of_z_loss = 2.0 * loss.z_loss * log_z
    of_p = gradient.total * (1.0 + of_z_loss) + gradient.z_loss * of_z_loss
    is_target = jnp.arange(logits.shape[-1]) == targets[..., None]
    q = jnp.where(is_target, low + more, low)
    p = jnp.exp(logits - log_z[..., None])
    return of_p[..., None] * p - gradient.total[..., None] * q, None


_token_losses.defvjp(_token_losses_forward, _token_losses_backward)

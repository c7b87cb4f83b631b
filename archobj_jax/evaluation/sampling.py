"""How the next token is chosen from logits."""

import dataclasses

import jax
import jax.numpy as jnp

from archobj_jax.errors import UserError
from archobj_jax.shapes import Array, Float, Int, checked


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Greedy, or random from the most likely tokens.

    Attributes:
      temperature: logits are divided by it; 0 is greedy, and the other fields then mean nothing.
      top_k: only so many most likely tokens can be drawn; 0 for all.
      top_p: only the fewest most likely tokens whose probabilities reach this sum can be drawn.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if self.temperature < 0 or self.top_k < 0 or not 0 < self.top_p <= 1:
            raise UserError(
                f"Sampling: temperature = {self.temperature} and top_k = {self.top_k} must not be "
                f"negative, top_p = {self.top_p} must be in (0, 1]."
            )

    @checked
    def __call__(self, logits: Float[Array, "B V"], key: jax.Array) -> Int[Array, "B"]:
        """The next token of each row; row i draws with `fold_in(key, i)`."""
        if self.temperature == 0.0:
            return jnp.argmax(logits, axis=-1).astype(jnp.int32)
        logits = self._most_likely(logits / self.temperature)
        rows = jnp.arange(logits.shape[0])
        keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(rows)
        return jax.vmap(jax.random.categorical)(keys, logits).astype(jnp.int32)

    def _most_likely(self, logits: Array) -> Array:
        ordered = jnp.sort(logits, axis=-1)[:, ::-1]
        lowest = ordered[:, -1:]
        if self.top_k:
            lowest = jnp.maximum(lowest, ordered[:, min(self.top_k, logits.shape[-1]) - 1, None])
        if self.top_p < 1.0:
            before = jnp.cumsum(jax.nn.softmax(ordered, axis=-1), axis=-1)
            before = before - jax.nn.softmax(ordered, axis=-1)
            count = jnp.sum(before < self.top_p, axis=-1, keepdims=True)
            lowest = jnp.maximum(lowest, jnp.take_along_axis(ordered, count - 1, axis=-1))
        return jnp.where(logits < lowest, -jnp.inf, logits)

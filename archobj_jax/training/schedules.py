"""Learning-rate schedules: T5X's factor strings, beside all of optax's."""

import dataclasses

import jax
import jax.numpy as jnp

from archobj_jax.errors import UserError, did_you_mean

FACTORS = (
    "constant",
    "linear_warmup",
    "linear_decay",
    "rsqrt_decay",
    "rsqrt_normalized_decay",
    "decay_every",
    "cosine_decay",
)


@dataclasses.dataclass(frozen=True)
class FactorSchedule:
    """A product of factors, e.g. "constant * linear_warmup * rsqrt_decay" (T5X's
    `create_learning_rate_scheduler`); a function of the 0-based step n, which `Trainer.train_step`
    counts from where the schedule began.

    Factors: constant: `base_learning_rate`. linear_warmup: min(1, n / warmup_steps). linear_decay:
    1 - max(0, n - warmup_steps) * decay_factor, not below 0. rsqrt_decay:
    1 / sqrt(max(n, warmup_steps)). rsqrt_normalized_decay: the same times sqrt(warmup_steps).
    decay_every: decay_factor ^ floor(n / steps_per_decay). cosine_decay: from 1 to 0 over
    `steps_per_cycle` steps after the warm-up, then again.

    The study pretrains at 1 / sqrt(max(n, 10^4)), that is "constant * rsqrt_decay" with
    base_learning_rate 1 and warmup_steps 10000.
    """

    factors: str = "constant * rsqrt_decay"
    base_learning_rate: float = 1.0
    warmup_steps: int = 10_000
    decay_factor: float = 0.5
    steps_per_decay: int = 20_000
    steps_per_cycle: int = 100_000

    def __post_init__(self) -> None:
        for name in self._names():
            if name not in FACTORS:
                raise UserError(
                    f"FactorSchedule.factors = {self.factors!r}: unknown factor '{name}', must be "
                    f"of {', '.join(FACTORS)}." + did_you_mean(name, FACTORS)
                )

    def _names(self) -> list[str]:
        return [name.strip() for name in self.factors.split("*")]

    def __call__(self, count: jax.typing.ArrayLike) -> jax.Array:
        """The learning rate, float32, at 0-based step `count`."""
        n = jnp.asarray(count, jnp.float32)
        product = jnp.ones((), jnp.float32)
        for name in self._names():
            product = product * self._factor(name, n)
        return product

    def _factor(self, name: str, n: jax.Array) -> jax.typing.ArrayLike:
        warmup = float(max(self.warmup_steps, 1))
        match name:
            case "constant":
                return self.base_learning_rate
            case "linear_warmup":
                return jnp.minimum(1.0, n / warmup)
            case "linear_decay":
                after = jnp.maximum(0.0, n - self.warmup_steps)
                return jnp.maximum(0.0, 1.0 - after * self.decay_factor)
            case "rsqrt_decay":
                return jax.lax.rsqrt(jnp.maximum(n, warmup))
            case "rsqrt_normalized_decay":
                return jnp.sqrt(warmup) * jax.lax.rsqrt(jnp.maximum(n, warmup))
            case "decay_every":
                return self.decay_factor ** jnp.floor(n / self.steps_per_decay)
            case _:
                after = jnp.maximum(0.0, n - self.warmup_steps) / self.steps_per_cycle
                return 0.5 * (1.0 + jnp.cos(jnp.pi * (after % 1.0)))

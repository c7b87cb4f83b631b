"""Beam search with the length penalty of GNMT (Wu et al. 2016, section 7), as T5X has it."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from archobj_jax.architectures.language_model import DecodingState
from archobj_jax.errors import UserError
from archobj_jax.inference.strategies import Ended, Hypothesis, Step, Trace
from archobj_jax.shapes import Array, Bool, Float, Int

_ENDED: tuple[Ended, ...] = ("eos", "stop", "length")
_EOS, _STOP, _LENGTH = range(len(_ENDED))


@struct.dataclass
class Finished:
    """The best hypotheses that have ended, n a prompt, best first.

    Attributes:
      score: log likelihood over the length penalty; -inf where there are fewer than n.
      log_likelihood: of all tokens, the end of sequence included.
      row, count: beam of the prompt whose first `count` tokens it has; no end of sequence.
      ended: why, an index of `_ENDED`.
    """

    score: Float[Array, "P n"]
    log_likelihood: Float[Array, "P n"]
    row: Int[Array, "P n"]
    count: Int[Array, "P n"]
    ended: Int[Array, "P n"]

    def best(self, count: int) -> "Finished":
        """The `count` best of each prompt."""
        _, at = jax.lax.top_k(self.score, count)
        return jax.tree.map(lambda x: jnp.take_along_axis(x, at, axis=1), self)

    def with_others(self, others: "Finished") -> "Finished":
        """The best of these and others, as many as these are."""
        both = jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=1), self, others)
        return both.best(self.score.shape[1])


@struct.dataclass
class BeamState:
    """What beam search keeps between tokens.

    Attributes:
      live: log likelihood of each beam's text so far; -inf where there is none.
      finished: hypotheses that have ended.
      limits: tokens that the hypotheses of each prompt have at most.
      index: tokens of the live ones.
      prompt: columns of the cache that the prompts take.
    """

    live: Float[Array, "P K"]
    finished: Finished
    limits: Int[Array, "P"]
    index: Int[Array, ""]
    prompt: int = struct.field(pytree_node=False)

    @property
    def done(self) -> Bool[Array, "P"]:
        """Prompts without a live beam."""
        return jnp.max(self.live, axis=1) == -jnp.inf


@dataclasses.dataclass(frozen=True)
class BeamSearch:
    """The texts of the best log likelihood / ((5 + tokens) / 6) ** length_penalty. A `Strategy`.

    Tokens are the new ones, the end of sequence included. Texts that end for lack of room compete
    with those that the model ended. The search ends when no live beam can come to beat the worst
    of the texts that are wanted.

    Attributes:
      beams: texts that are gone on with at each token.
      length_penalty: 0 for none; the higher, the longer the texts.
    """

    beams: int = 4
    length_penalty: float = 0.6
    rows_compete: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.beams < 1 or self.length_penalty < 0:
            raise UserError(
                f"BeamSearch: beams = {self.beams} must be at least 1, "
                f"length_penalty = {self.length_penalty} must not be negative."
            )

    def rows(self, num_samples: int) -> int:
        """One for each beam."""
        del num_samples
        return self.beams

    def begin(
        self, keys: Array, limits: Int[Array, "P"], *, num_samples: int, prompt: int
    ) -> BeamState:
        """See `Strategy`. One beam lives at first: all rows of a prompt are the same."""
        del keys
        count = limits.shape[0]
        first = jnp.where(limits > 0, 0.0, -jnp.inf)[:, None]
        live = jnp.pad(first, ((0, 0), (0, self.beams - 1)), constant_values=-jnp.inf)
        nothing = jnp.full((count, num_samples), -jnp.inf)
        zeros = jnp.zeros((count, num_samples), jnp.int32)
        finished = Finished(nothing, nothing, zeros, zeros, zeros)
        return BeamState(live, finished, limits, jnp.zeros((), jnp.int32), prompt)

    def choose(
        self, logits: Float[Array, "R V"], state: BeamState, decoding: DecodingState, eos_id: int
    ) -> tuple[Step, BeamState, DecodingState]:
        """See `Strategy`. Every live beam also finishes, with an end of sequence."""
        prompts, vocabulary = state.live.shape[0], logits.shape[-1]
        likely = jax.nn.log_softmax(logits, axis=-1).reshape(prompts, self.beams, vocabulary)
        total = state.live[:, :, None] + likely
        finished = self._finished(state, total[:, :, eos_id], state.index + 1, _EOS)
        total = total.at[:, :, eos_id].set(-jnp.inf).reshape(prompts, -1)
        live, chosen = jax.lax.top_k(total, self.beams)
        parents, tokens = chosen // vocabulary, chosen % vocabulary
        state = dataclasses.replace(state, live=live, finished=finished, index=state.index + 1)
        state = self._ended(state, (state.index >= state.limits)[:, None], _LENGTH)
        step = Step(
            tokens.reshape(-1),
            (parents + self.beams * jnp.arange(prompts)[:, None]).reshape(-1),
            jnp.take_along_axis(likely.reshape(prompts, -1), chosen, axis=1).reshape(-1),
        )
        return step, self._pruned(state), decoding.reordered(parents, prompt=state.prompt)

    def stop(self, state: BeamState, rows: Bool[Array, "R"]) -> BeamState:
        """See `Strategy`."""
        return self._pruned(self._ended(state, rows.reshape(state.live.shape), _STOP))

    def hypotheses(self, state: BeamState, trace: Trace, eos_id: int) -> list[list[Hypothesis]]:
        """See `Strategy`."""
        del trace, eos_id
        finished, made = jax.tree.map(np.asarray, state.finished), []
        for prompt in range(state.live.shape[0]):
            each = jax.tree.map(lambda x, prompt=prompt: x[prompt], finished)
            made.append(
                [
                    Hypothesis(
                        row=prompt * self.beams + int(each.row[i]),
                        count=int(each.count[i]),
                        log_likelihood=float(each.log_likelihood[i]),
                        ended=_ENDED[each.ended[i]],
                        score=float(each.score[i]),
                    )
                    for i in np.flatnonzero(each.score > -np.inf)
                ]
            )
        return made

    def _penalty(self, tokens: Array) -> Array:
        return ((5.0 + tokens) / 6.0) ** self.length_penalty

    def _finished(self, state: BeamState, total: Array, tokens: Array, ended: int) -> Finished:
        """The finished hypotheses with those [P, K] that live beams end as, of `tokens` tokens."""
        rows = jnp.broadcast_to(jnp.arange(self.beams, dtype=jnp.int32), total.shape)
        others = Finished(
            score=total / self._penalty(tokens),
            log_likelihood=total,
            row=rows,
            count=jnp.full_like(rows, state.index),
            ended=jnp.full_like(rows, ended),
        )
        return state.finished.with_others(others)

    def _ended(self, state: BeamState, beams: Array, ended: int) -> BeamState:
        """Live `beams` [P, K] have ended with their last token."""
        total = jnp.where(beams, state.live, -jnp.inf)
        finished = self._finished(state, total, state.index, ended)
        live = jnp.where(beams, -jnp.inf, state.live)
        return dataclasses.replace(state, live=live, finished=finished)

    def _pruned(self, state: BeamState) -> BeamState:
        """Ends prompts none of whose live beams can come to beat the worst finished hypothesis.

        Log likelihoods only fall, so at best they stay, over the penalty of the longest text.
        """
        best = jnp.max(state.live, axis=1) / self._penalty(state.limits)
        hopeless = (best <= state.finished.score[:, -1])[:, None]
        return dataclasses.replace(state, live=jnp.where(hopeless, -jnp.inf, state.live))

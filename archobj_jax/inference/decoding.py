"""Text generation: prompts are read once, then a strategy chooses token after token."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from archobj_jax.errors import UserError
from archobj_jax.inference.batching import Batch, batches, bucket
from archobj_jax.inference.beam import BeamSearch
from archobj_jax.inference.placing import row_shards
from archobj_jax.inference.sampling import Sampling
from archobj_jax.inference.stops import Stops
from archobj_jax.inference.strategies import Ended, Hypothesis, Strategy, Trace
from archobj_jax.inference.token_loop import CHUNK, TokenLoop
from archobj_jax.inference.vocabulary import Vocabulary
from archobj_jax.objectives import Layout
from archobj_jax.training.state import Blueprint

OnText = Callable[[int, int, str], None]
"""Is called with a prompt's index, the index of one of its texts, and the next piece of that."""


@dataclasses.dataclass(frozen=True)
class Generation:
    """What to write after a prompt.

    Attributes:
      max_new_tokens: tokens of a text at most.
      sampling: greedy, or how to draw; has no say in beam search.
      beams: searches for the best texts instead of drawing them.
      num_samples: texts of each prompt: draws, or the best that were found.
      stop: strings before which a text ends.
      seed: of random draws.

    Raises:
      UserError: a field is out of range, or contradicts another.
    """

    max_new_tokens: int = 64
    sampling: Sampling = Sampling()
    beams: BeamSearch | None = None
    num_samples: int = 1
    stop: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "stop", tuple(self.stop))
        if self.max_new_tokens < 1 or self.num_samples < 1:
            raise UserError(
                f"Generation: max_new_tokens = {self.max_new_tokens} and num_samples = "
                f"{self.num_samples} must be at least 1."
            )
        if not 0 <= self.seed < 2**32:
            raise UserError(f"Generation: seed = {self.seed} must be a number of 32 bits.")
        if "" in self.stop:
            raise UserError("Generation: stop has an empty string, which would end every text.")
        if self.beams is not None:
            if self.sampling != Sampling():
                raise UserError("Generation: beams and sampling exclude each other.")
            if self.num_samples > self.beams.beams:
                raise UserError(
                    f"Generation: num_samples = {self.num_samples} texts cannot come from "
                    f"beams = {self.beams.beams}; beams must be at least as many."
                )
        elif self.num_samples > 1 and self.sampling.temperature == 0:
            raise UserError(
                f"Generation: num_samples = {self.num_samples} greedy texts would be the same; "
                "give a temperature above 0, or beams."
            )

    @property
    def strategy(self) -> Strategy:
        """How tokens are chosen."""
        return self.sampling if self.beams is None else self.beams


@dataclasses.dataclass(frozen=True)
class Generated:
    """A text that was written after a prompt.

    Attributes:
      tokens: ids, without the end of sequence; up to the one that completes a stop string.
      text: decoded, before the stop string if there is one.
      log_likelihood: of the tokens (and of the end of sequence, if it ended so) under the model's
        own distribution, in nats.
      ended: why: "eos", "stop" or "length".
      score: what beam search ranks by, see `BeamSearch`; None for samples.
    """

    tokens: tuple[int, ...]
    text: str
    log_likelihood: float
    ended: Ended
    score: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokens", tuple(self.tokens))


def generate(
    blueprint: Blueprint,
    params: Mapping,
    vocabulary: Vocabulary,
    prompts: Sequence[np.ndarray],
    config: Generation,
    *,
    batch_tokens: int,
    limits: Sequence[int] | None = None,
    numbers: Sequence[int] | None = None,
    on_text: OnText | None = None,
) -> list[list[Generated]]:
    """Writes after each prompt. Token i of sample s of prompt p is drawn with a key of
    (seed, p, s, i), whatever else is written with it.

    Args:
      blueprint: of the model.
      params: its parameters.
      vocabulary: ends texts with its `eos_id` and decodes them.
      prompts: int32 [n] each, may be empty.
      config: what to write.
      batch_tokens: about how many tokens a device holds at a time.
      limits: tokens of each prompt's texts at most; None is `config.max_new_tokens` for all.
      numbers: p of each prompt; None is its index.
      on_text: is given texts while they are made, those of a search when it has ended. Tokens are
        then made one by one.

    Returns:
      For each prompt its texts: samples in their order, or the best first. A search over few
      tokens may find fewer than were wanted.
    """
    limits = [config.max_new_tokens] * len(prompts) if limits is None else limits
    numbers = range(len(prompts)) if numbers is None else numbers
    rows = config.strategy.rows(config.num_samples)
    shards = row_shards(blueprint.rules)
    loop = TokenLoop(blueprint, config.strategy, config.num_samples, vocabulary.eos_id)
    stops = Stops(config.stop, vocabulary.decode)
    made: dict[int, list[Generated]] = {}
    for batch in batches(
        [(bucket(prompt.size + 1),) for prompt in prompts],
        tokens=lambda shape: rows * (shape[0] + max(limits)),
        budget=batch_tokens * shards,
        multiple=shards,
    ):
        arrays = _arrays(
            blueprint.architecture.layout,
            [prompts[index] for index in batch.items],
            columns=batch.shape[0],
            rows=batch.rows,
        )
        for name, values in (("limits", limits), ("numbers", numbers)):
            arrays[name] = np.zeros(batch.rows, np.int32)  # no text where no prompt is
            arrays[name][: len(batch.items)] = [values[index] for index in batch.items]
        watch = _Watch(loop, stops, batch, on_text)
        state, trace = loop.run(
            params, arrays, seed=config.seed, look=watch.look, chunk=watch.chunk
        )
        hypotheses = config.strategy.hypotheses(state, trace, loop.eos_id)
        for index, found in zip(batch.items, hypotheses, strict=False):
            made[index] = [_generated(each, trace, stops) for each in found]
            for sample, each in enumerate(made[index]):
                watch.send(index, sample, each.text)
    return [made[index] for index in range(len(prompts))]


def _arrays(
    layout: Layout, prompts: Sequence[np.ndarray], *, columns: int, rows: int
) -> dict[str, np.ndarray]:
    """Prompts as the model reads them; the first one again fills the rows that are left."""
    # The position of the first target predicts the first new token; what stands there is not read.
    target = np.ones(1, np.int32)
    lengths = {"inputs": columns - 1, "targets": 1}
    made = [layout.row([{"inputs": prompt, "targets": target}], lengths) for prompt in prompts]
    made += [made[0]] * (rows - len(made))
    return {name: np.stack([row[name] for row in made]) for name in made[0]}


def _generated(hypothesis: Hypothesis, trace: Trace, stops: Stops) -> Generated:
    """The text of a hypothesis, up to a stop string if it has one."""
    tokens, likely = (x[0] for x in trace.paths(np.array([hypothesis.row]), hypothesis.count))
    text, completed = stops.cut(tokens.tolist())
    total, ended = hypothesis.log_likelihood, hypothesis.ended
    if completed is not None:
        total, ended = float(likely[:completed].sum(dtype=np.float64)), "stop"
    return Generated(tuple(tokens[:completed].tolist()), text, total, ended, hypothesis.score)


class _Watch:
    """Looks at a batch while it is made: for stop strings, and to hand its text on."""

    def __init__(self, loop: TokenLoop, stops: Stops, batch: Batch, on_text: OnText | None):
        self.loop, self.stops, self.on_text = loop, stops, on_text
        self.per_prompt = loop.strategy.rows(loop.num_samples)
        self.items = batch.items
        self.over = np.ones(batch.rows * self.per_prompt, bool)
        self.over[: len(batch.items) * self.per_prompt] = False
        # While rows compete, which of them are results is not known before the end.
        self.streams = on_text is not None and not loop.strategy.rows_compete
        at_once = self.streams or (bool(stops.strings) and loop.strategy.rows_compete)
        self.chunk = 1 if at_once else CHUNK
        self.sent: dict[tuple[int, int], int] = {}

    def look(self, trace: Trace) -> np.ndarray:
        """Hands text on; returns which rows [R] have met a stop string."""
        stopped = np.zeros_like(self.over)
        if not self.stops.strings and not self.streams:
            return stopped
        tokens, _ = trace.paths(np.arange(self.over.size), len(trace))
        for row in np.flatnonzero(~self.over):
            written, has_ended = _until(tokens[row], self.loop.eos_id)
            stopped[row] = self.stops.found(written)
            if self.streams:
                prompt, sample = divmod(int(row), self.per_prompt)
                self.send(self.items[prompt], sample, self.stops.settled(written))
            if not self.loop.strategy.rows_compete:
                self.over[row] = has_ended or stopped[row]
        return stopped

    def send(self, prompt: int, sample: int, text: str) -> None:
        """Hands on what of a text has not been handed on before."""
        if self.on_text is None:
            return
        sent = self.sent.get((prompt, sample), 0)
        if len(text) > sent:
            self.on_text(prompt, sample, text[sent:])
            self.sent[prompt, sample] = len(text)


def _until(tokens: np.ndarray, eos_id: int) -> tuple[list[int], bool]:
    """The tokens before the end of sequence, and whether there is one."""
    ends = np.flatnonzero(tokens == eos_id)
    return (tokens[: ends[0]] if ends.size else tokens).tolist(), bool(ends.size)

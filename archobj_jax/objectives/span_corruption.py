"""Masked language modeling (MLM) as T5's span corruption: fill in the spans that were cut out."""

import functools
import itertools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from archobj_jax import errors
from archobj_jax.objectives.objective import (
    Example,
    Lengths,
    Vocabulary,
    check_lengths,
    eos_id,
)
from archobj_jax.objectives.window_objective import WindowObjective


@dataclass(frozen=True)
class SpanCorruption(WindowObjective):
    """Replaces random spans by sentinels in the inputs; the targets are the spans.

    Raw `a b c d e f g h` with spans `c d` and `h`, sentinels X = the last id, Y = the one before:

        inputs   a b X e f g Y EOS
        targets  X c d Y h EOS

    The spans are T5's random_spans_noise_mask (Raffel et al. 2020, arXiv 1910.10683, section
    3.3.4): their number and total length follow from the window, only where they lie is random.
    So every row has the same shape and no padding: 568 raw tokens become 512 inputs, 114 targets.

    Attributes:
      noise_density: share of the raw tokens that is cut out, between 0 and 1.
      mean_noise_span_length: in tokens, at least 1.
    """

    name: ClassVar[str] = "span_corruption"
    symbol = "MLM"
    document_ends: ClassVar[bool] = False
    features: ClassVar[tuple[str, ...]] = ("inputs", "targets")

    noise_density: float = 0.15
    mean_noise_span_length: float = 3.0

    def __post_init__(self) -> None:
        if not 0.0 < self.noise_density < 1.0:
            raise errors.UserError(
                f"SpanCorruption.noise_density is {self.noise_density}; expected between 0 and 1."
            )
        if not self.mean_noise_span_length >= 1.0:
            raise errors.UserError(
                f"SpanCorruption.mean_noise_span_length is {self.mean_noise_span_length}; "
                "expected at least 1 token."
            )

    def window(self, lengths: Lengths) -> int:
        """Returns the raw tokens that become exactly these lengths, an EOS at the end of each."""
        check_lengths(self.name, lengths, required=self.features)
        inputs, targets = lengths["inputs"], lengths["targets"]
        fitting = self._fitting(inputs)
        for window, made in fitting:
            if targets == made:
                return window
        if not fitting:
            longer = next(n for n in itertools.count(inputs + 1) if self._fitting(n))
            raise errors.UserError(
                f"TASK_FEATURE_LENGTHS: 'inputs' is {inputs}; {self} makes no inputs of that "
                f"length. The next longer one is {longer}, with 'targets' of "
                f"{self._fitting(longer)[-1][1]}."
            )
        made = fitting[-1][1]
        raise errors.UserError(
            f"TASK_FEATURE_LENGTHS: 'targets' is {targets}, too "
            f"{'short' if targets < made else 'long'}; for 'inputs' of {inputs}, {self} makes "
            f"exactly {made}."
        )

    def _fitting(self, inputs: int) -> tuple[tuple[int, int], ...]:
        return _targets_by_window(inputs, self.noise_density, self.mean_noise_span_length)

    def check(self, lengths: Lengths, vocabulary: Vocabulary) -> None:
        """Raises UserError if the lengths do not match, or the sentinels are too few."""
        super().check(lengths, vocabulary)
        _, spans = self._noise(self.window(lengths))
        _sentinels(spans, vocabulary)

    def _noise(self, window: int) -> tuple[int, int]:
        return noise_tokens_and_spans(window, self.noise_density, self.mean_noise_span_length)

    def _examples(
        self,
        tokens: np.ndarray,
        rng: np.random.Generator,
        lengths: Lengths,
        vocabulary: Vocabulary,
    ) -> list[Example]:
        del lengths
        noise, spans = self._noise(tokens.size)
        starts, ends = random_spans(tokens.size, noise, spans, rng)
        sentinels = _sentinels(spans, vocabulary)
        return [_corrupt(tokens, starts, ends, sentinels, eos_id(self.name, vocabulary))]


def noise_tokens_and_spans(length: int, density: float, mean_span: float) -> tuple[int, int]:
    """Returns (noise tokens, noise spans) of a window of `length` raw tokens, at least 2.

    T5's rule, each rounded half to even: length * density, leaving at least one token on each
    side, and noise / mean_span, at least one span and at most what non-empty spans allow.
    """
    noise = min(max(round(length * density), 1), length - 1)
    spans = max(round(noise / mean_span), 1)
    return noise, min(spans, length - noise)


def random_spans(
    length: int, noise: int, spans: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Returns starts and ends of the noise spans in order, int64 [spans] each.

    Noise and the rest are each cut into `spans` random non-empty segments, every way equally
    likely; the segments alternate, the first is not noise.
    """
    kept_bounds = _random_bounds(length - noise, spans, rng)
    noise_bounds = _random_bounds(noise, spans, rng)
    return kept_bounds[1:] + noise_bounds[:-1], kept_bounds[1:] + noise_bounds[1:]


def _random_bounds(items: int, segments: int, rng: np.random.Generator) -> np.ndarray:
    """Returns int64 [segments + 1] bounds, 0 to `items`, of random non-empty segments."""
    bounds = np.empty(segments + 1, np.int64)
    bounds[0], bounds[-1] = 0, items
    cuts = rng.choice(items - 1, segments - 1, replace=False, shuffle=False)
    cuts.sort()
    bounds[1:-1] = cuts + 1
    return bounds


def _sentinels(spans: int, vocabulary: Vocabulary) -> np.ndarray:
    """Returns the last `spans` ids of the vocabulary, descending, int32."""
    if spans > vocabulary.extra_ids:
        raise errors.UserError(
            f"TASK_FEATURE_LENGTHS: span_corruption makes {spans} spans in rows of these lengths, "
            f"but {vocabulary} has only {vocabulary.extra_ids} extra ids to mark them; use shorter "
            "lengths or a vocabulary with more extra ids."
        )
    last = vocabulary.vocab_size - 1
    return np.arange(last, last - spans, -1, dtype=np.int32)


def _corrupt(
    tokens: np.ndarray, starts: np.ndarray, ends: np.ndarray, sentinels: np.ndarray, eos: int
) -> Example:
    text = np.empty(tokens.size + 1, np.int32)
    text[:-1] = tokens
    text[-1] = eos

    # +1 where a span starts, -1 where it ends: the running sum is 1 inside spans, 0 at the EOS.
    edges = np.zeros(text.size, np.int8)
    edges[starts] = 1
    edges[ends] = -1
    noise = np.cumsum(edges, dtype=np.int8).view(np.bool_)

    # Each span follows its sentinel; the head of span i lies behind i other sentinels.
    sizes = ends - starts + 1
    heads = np.cumsum(sizes) - sizes
    targets = np.empty(int(sizes.sum()) + 1, np.int32)
    body = np.ones(targets.size, np.bool_)
    body[heads] = False
    body[-1] = False
    targets[body] = text[noise]
    targets[heads] = sentinels
    targets[-1] = eos

    # The first token of a span makes place for its sentinel, the others go.
    text[starts] = sentinels
    noise[starts] = False
    return {"inputs": text[~noise], "targets": targets}


@functools.lru_cache(maxsize=256)
def _targets_by_window(
    inputs: int, density: float, mean_span: float
) -> tuple[tuple[int, int], ...]:
    """Returns (window, targets length) of every window that makes exactly `inputs` tokens.

    T5's random_spans_helper takes the largest window only, one less in a special case. The length
    of the inputs never falls as the window grows, so the search ends.
    """
    fitting: list[tuple[int, int]] = []
    for window in itertools.count(2):
        noise, spans = noise_tokens_and_spans(window, density, mean_span)
        made = window - noise + spans + 1
        if made > inputs:
            break
        if made == inputs:
            fitting.append((window, noise + spans + 1))
    return tuple(fitting)

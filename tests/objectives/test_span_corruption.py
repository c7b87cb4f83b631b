import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from archobj_jax.errors import UserError
from archobj_jax.objectives import SpanCorruption, rng_for
from archobj_jax.objectives.span_corruption import noise_tokens_and_spans, random_spans

LENGTHS = {"inputs": 512, "targets": 114}
WINDOW = 568


def lengths_of(window, density, mean_span):
    """The lengths that T5's rule gives for a window."""
    noise, spans = noise_tokens_and_spans(window, density, mean_span)
    return {"inputs": window - noise + spans + 1, "targets": noise + spans + 1}


def t5_window(inputs_length, density, mean_span):
    """T5's random_spans_helper, restated: the largest window whose inputs still fit."""

    def inputs_of(window):
        noise = round(window * density)
        return window - noise + round(noise / mean_span) + 1

    window = inputs_length - 1
    while inputs_of(window + 1) <= inputs_length:
        window += 1
    return window


def cut_out(example, vocabulary):
    """The spans that the targets hold, in order, and the sentinels that name them."""
    targets = example["targets"][:-1]
    heads = np.flatnonzero(targets >= vocabulary.vocab_size - vocabulary.extra_ids)
    return np.split(targets, heads)[1:], targets[heads]


def recombined(example, vocabulary):
    spans, sentinels = cut_out(example, vocabulary)
    by_sentinel = {int(s): span[1:] for s, span in zip(sentinels, spans, strict=True)}
    text = [by_sentinel.get(int(t), [t]) for t in example["inputs"][:-1]]
    return np.concatenate(text)


def test_the_documented_example(vocabulary, monkeypatch):
    monkeypatch.setattr(
        "archobj_jax.objectives.span_corruption.random_spans",
        lambda *_: (np.array([2, 7]), np.array([4, 8])),
    )
    objective = SpanCorruption(noise_density=0.375, mean_noise_span_length=1.5)
    tokens = np.arange(10, 18)
    lengths = {"inputs": 8, "targets": 6}
    (example,) = objective.examples(tokens, rng_for(0, 0), lengths, vocabulary)
    assert example["inputs"].tolist() == [10, 11, 4195, 14, 15, 16, 4194, 1]
    assert example["targets"].tolist() == [4195, 12, 13, 4194, 17, 1]


def test_the_papers_lengths():
    assert SpanCorruption().window(LENGTHS) == WINDOW


def test_the_window_is_t5s():
    for window in range(20, 1000, 3):
        lengths = lengths_of(window, 0.15, 3.0)
        largest = t5_window(lengths["inputs"], 0.15, 3.0)
        if largest == window:
            assert SpanCorruption().window(lengths) == window
        else:  # another window makes the same inputs, with other targets
            assert lengths_of(largest, 0.15, 3.0)["targets"] != lengths["targets"]


@settings(deadline=None, max_examples=150)
@given(
    window=st.integers(2, 700),
    density=st.sampled_from([0.1, 0.15, 0.3, 0.5, 0.85]),
    mean_span=st.sampled_from([1.0, 2.5, 3.0, 8.0]),
    seed=st.integers(0, 2**63),
    index=st.integers(0, 2**40),
)
def test_inputs_and_targets_recombine(make_vocabulary, window, density, mean_span, seed, index):
    vocabulary = make_vocabulary(extra_ids=400)
    objective = SpanCorruption(density, mean_span)
    lengths = lengths_of(window, density, mean_span)
    assert objective.window(lengths) == window
    tokens = np.random.default_rng(window).integers(3, 3796, window)
    (example,) = objective.examples(tokens, rng_for(seed, index), lengths, vocabulary)

    assert {name: x.size for name, x in example.items()} == lengths
    assert example["inputs"][-1] == example["targets"][-1] == vocabulary.eos_id
    spans, sentinels = cut_out(example, vocabulary)
    np.testing.assert_array_equal(sentinels, 4195 - np.arange(len(spans)))
    in_inputs = example["inputs"][example["inputs"] >= 3796]
    np.testing.assert_array_equal(in_inputs, sentinels)
    assert all(span.size > 1 for span in spans)
    np.testing.assert_array_equal(recombined(example, vocabulary), tokens)


def test_a_million_tokens(vocabulary):
    tokens = np.random.default_rng(0).integers(3, 4096, WINDOW)
    total = cut = count = 0
    for index in range(10**6 // WINDOW + 1):
        rng = rng_for(11, index)
        (example,) = SpanCorruption().examples(tokens, rng, LENGTHS, vocabulary)
        spans, _ = cut_out(example, vocabulary)
        total += WINDOW
        cut += sum(span.size - 1 for span in spans)
        count += len(spans)
    assert total >= 10**6
    assert abs(cut / total - 0.15) <= 0.005
    assert abs(cut / count - 3.0) <= 0.05


def test_every_way_to_place_the_spans_is_equally_likely():
    length, noise, spans = 9, 4, 3

    def is_mask(mask):
        runs = [(kind, len(list(run))) for kind, run in itertools.groupby(mask)]
        return sum(mask) == noise and len(runs) == 2 * spans and runs[0][0] == 0

    possible = sum(map(is_mask, itertools.product([0, 1], repeat=length)))
    counts: Counter[tuple[int, ...]] = Counter()
    for index in range(6_000):
        starts, ends = random_spans(length, noise, spans, rng_for(2, index))
        counts[(*starts.tolist(), *ends.tolist())] += 1
    assert len(counts) == possible
    assert stats.chisquare(list(counts.values())).pvalue > 0.01


def test_too_few_sentinels_are_named(make_vocabulary):
    small = make_vocabulary(extra_ids=20)
    message = "makes 28 spans .* only 20 extra ids"
    with pytest.raises(UserError, match=message):
        SpanCorruption().check(LENGTHS, small)
    with pytest.raises(UserError, match=message):
        SpanCorruption().examples(np.zeros(WINDOW, int), rng_for(0, 0), LENGTHS, small)
    SpanCorruption().check(LENGTHS, make_vocabulary(extra_ids=28))


@pytest.mark.parametrize("density", [0.0, 1.0, -0.1, float("nan")])
def test_unusable_density(density):
    with pytest.raises(UserError, match="noise_density"):
        SpanCorruption(noise_density=density)


@pytest.mark.parametrize("mean_span", [0.5, 0.0, float("nan")])
def test_unusable_span_length(mean_span):
    with pytest.raises(UserError, match="mean_noise_span_length"):
        SpanCorruption(mean_noise_span_length=mean_span)


def test_the_stream_has_no_document_ends():
    assert not SpanCorruption.document_ends

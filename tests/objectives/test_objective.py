import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from archobj_jax.errors import UserError
from archobj_jax.objectives import FullLm, PrefixLm, SpanCorruption, rng_for

EACH = pytest.mark.parametrize(
    ("objective", "lengths"),
    [
        (FullLm(), {"targets": 626}),
        (PrefixLm(), {"targets": 626}),
        (PrefixLm(), {"inputs": 626, "targets": 626}),
        (SpanCorruption(), {"inputs": 512, "targets": 114}),
    ],
    ids=["full_lm", "prefix_lm", "prefix_lm_pairs", "span_corruption"],
)


def raw_tokens(size, seed=0):
    return np.random.default_rng(seed).integers(3, 4096, size).astype(np.uint16)


def test_rng_for_depends_on_seed_and_index_alone():
    def draws(seed, index):
        return tuple(rng_for(seed, index).integers(2**63, size=4))

    assert draws(3, 5) == draws(3, 5)
    keys = [(seed, index) for seed in (-1, 0, 1, 2**40) for index in (0, 1, 2, 2**40)]
    assert len({draws(*key) for key in keys}) == len(keys)


def test_rng_for_is_philox_keyed_by_seed_and_index():
    for seed, index in [(0, 0), (-1, 3), (2**63, 2**40), (7, -2)]:
        words = [index % 2**64, seed % 2**64]
        expected = np.random.Philox(key=words[1] << 64 | words[0])
        found = rng_for(seed, index).bit_generator
        np.testing.assert_array_equal(found.random_raw(5), expected.random_raw(5))


@EACH
def test_examples_are_a_function_of_window_and_key(objective, lengths, vocabulary):
    tokens = raw_tokens(objective.window(lengths))
    before = tokens.copy()
    first = objective.examples(tokens, rng_for(7, 1), lengths, vocabulary)
    second = objective.examples(tokens, rng_for(7, 1), lengths, vocabulary)
    np.testing.assert_equal(first, second)
    np.testing.assert_array_equal(tokens, before)
    for example in first:
        assert set(example) == set(objective.features)
        assert all(x.dtype == np.int32 and x.ndim == 1 and x.size for x in example.values())


@EACH
def test_rows_are_full(objective, lengths, vocabulary):
    tokens = raw_tokens(objective.window(lengths))
    for index in range(20):
        examples = objective.examples(tokens, rng_for(0, index), lengths, vocabulary)
        assert sum(x.size for example in examples for x in example.values()) == sum(
            lengths.values()
        )


@EACH
def test_window_of_the_wrong_size_is_a_programming_error(objective, lengths, vocabulary):
    window = objective.window(lengths)
    with pytest.raises(ValueError, match=rf"\({window},\), got \({window - 1},\)"):
        objective.examples(raw_tokens(window - 1), rng_for(0, 0), lengths, vocabulary)


@EACH
def test_vocabulary_without_eos_is_named(objective, lengths, make_vocabulary):
    with pytest.raises(UserError, match="no EOS"):
        objective.check(lengths, make_vocabulary(eos_id=None))


@pytest.mark.parametrize(
    ("objective", "lengths", "message"),
    [
        (FullLm(), {"target": 8}, r"no feature 'target'; it takes 'targets'\. Did you mean 'targ"),
        (FullLm(), {"inputs": 8, "targets": 8}, "full_lm has no feature 'inputs'"),
        (FullLm(), {}, "full_lm needs a length for 'targets'"),
        (FullLm(), {"targets": 0}, "length of 'targets' is 0; .* at least 1"),
        (FullLm(), {"targets": 6.5}, "length of 'targets' is 6.5; .* whole number"),
        (PrefixLm(), {"inputs": 626}, "prefix_lm needs a length for 'targets'"),
        (PrefixLm(), {"inputs": 512, "targets": 114}, r"'inputs' \(512\) and 'targets' \(114\)"),
        (PrefixLm(), {"targets": 1}, "'targets' is 1; prefix_lm splits at least 2"),
        (SpanCorruption(), {"targets": 114}, "span_corruption needs a length for 'inputs'"),
        (SpanCorruption(), {"inputs": 512, "targets": 113}, "113, too short; .* exactly 114"),
        (SpanCorruption(), {"inputs": 512, "targets": 128}, "128, too long; .* exactly 114"),
        (SpanCorruption(), {"inputs": 2, "targets": 3}, "next longer one is 3, .* 'targets' of 3"),
        (SpanCorruption(0.5, 1.0), {"inputs": 64, "targets": 65}, "next longer one is 65"),
    ],
)
def test_unusable_lengths_are_one_message(objective, lengths, message):
    with pytest.raises(UserError, match=f"^TASK_FEATURE_LENGTHS: .*{message}"):
        objective.window(lengths)


def test_what_seqio_hands_over_is_not_part_of_the_objective():
    given = dataclasses.replace(SpanCorruption(), sequence_length={"inputs": 512})
    assert given == SpanCorruption()
    assert hash(given) == hash(SpanCorruption())
    assert repr(given) == "SpanCorruption(noise_density=0.15, mean_noise_span_length=3.0)"


def test_importing_objectives_needs_no_tensorflow():
    code = "import sys, archobj_jax.objectives; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

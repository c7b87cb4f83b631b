import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from archobj_jax.objectives import PrefixLm, rng_for

PREFIX_LM = PrefixLm()


def splits(length, rows, vocabulary, *, paired):
    lengths = {"inputs": length, "targets": length} if paired else {"targets": length}
    tokens = np.arange(PREFIX_LM.window(lengths))
    return np.array(
        [
            PREFIX_LM.examples(tokens, rng_for(5, i), lengths, vocabulary)[0]["inputs"].size
            for i in range(rows)
        ]
    )


@settings(deadline=None, max_examples=60)
@given(length=st.integers(2, 700), seed=st.integers(0, 2**63), index=st.integers(0, 2**40))
def test_inputs_then_targets_are_the_window(vocabulary, length, seed, index):
    tokens = np.arange(100, 100 + length)
    lengths = {"targets": length}
    (example,) = PREFIX_LM.examples(tokens, rng_for(seed, index), lengths, vocabulary)
    assert 1 <= example["inputs"].size <= length - 1
    np.testing.assert_array_equal(np.concatenate(list(example.values())), tokens)


@settings(deadline=None, max_examples=60)
@given(length=st.integers(2, 700), seed=st.integers(0, 2**63), index=st.integers(0, 2**40))
def test_pairs_are_split_complementarily(vocabulary, length, seed, index):
    lengths = {"inputs": length, "targets": length}
    assert PREFIX_LM.window(lengths) == 2 * length
    tokens = np.arange(100, 100 + 2 * length)
    first, second = PREFIX_LM.examples(tokens, rng_for(seed, index), lengths, vocabulary)
    assert first["inputs"].size == second["targets"].size
    assert first["targets"].size == second["inputs"].size
    parts = [first["inputs"], first["targets"], second["inputs"], second["targets"]]
    np.testing.assert_array_equal(np.concatenate(parts), tokens)


def test_the_papers_pairs_have_constant_shapes(vocabulary):
    lengths = {"inputs": 626, "targets": 626}
    tokens = np.arange(1252)
    for index in range(50):
        pair = PREFIX_LM.examples(tokens, rng_for(0, index), lengths, vocabulary)
        assert sum(example["inputs"].size for example in pair) == 626
        assert sum(example["targets"].size for example in pair) == 626


@pytest.mark.parametrize("paired", [False, True])
def test_split_is_uniform(vocabulary, paired):
    length, rows = 26, 20_000
    counts = np.bincount(splits(length, rows, vocabulary, paired=paired), minlength=length)
    assert counts[0] == 0
    assert counts.size == length  # no split at `length` either
    assert stats.chisquare(counts[1:]).pvalue > 0.01


def test_neighbouring_rows_are_independent(vocabulary):
    sizes = splits(626, 5_000, vocabulary, paired=False)
    assert abs(np.corrcoef(sizes[:-1], sizes[1:])[0, 1]) < 0.04


def test_documents_are_separated_by_eos():
    assert PrefixLm.document_ends

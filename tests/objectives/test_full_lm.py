import numpy as np

from archobj_jax.objectives import FullLm, rng_for


def test_the_whole_window_is_targets(vocabulary):
    tokens = np.arange(3, 629, dtype=np.uint16)
    lengths = {"targets": 626}
    assert FullLm().window(lengths) == 626
    (example,) = FullLm().examples(tokens, rng_for(0, 0), lengths, vocabulary)
    assert set(example) == {"targets"}
    np.testing.assert_array_equal(example["targets"], tokens)


def test_documents_are_separated_by_eos():
    assert FullLm.document_ends

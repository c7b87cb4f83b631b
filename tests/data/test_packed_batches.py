"""Batches of packed examples: the loader's promises, for tasks whose examples are as given."""

import dataclasses
import itertools
from collections import Counter

import numpy as np
import pytest
import seqio

from archobj_jax.data import declaration, loader, packing, parts
from archobj_jax.errors import UserError
from archobj_jax.objectives import DecoderLayout, EncoderDecoderLayout, FullLm
from tests.data.corpora import examples, register, register_examples

LENGTHS = {"inputs": 36, "targets": 10}
LAYOUTS = pytest.mark.parametrize("layout", [DecoderLayout(), EncoderDecoderLayout()])
PAIRS, MORE = examples(150), examples(60, seed=1)


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "MIN_EXAMPLES", 1)
    register_examples("pairs", PAIRS)
    register_examples("more", MORE)
    seqio.MixtureRegistry.add("both", [("pairs", 1), ("more", 3)])
    return loader.DatasetConfig("both", LENGTHS, "train", 4, cache_dir=str(tmp_path / "cache"))


def take(config, count, *, layout=DecoderLayout(), **kwargs):
    """Returns `count` batches, each feature stacked over batches."""
    kwargs = {"start_step": 0, **kwargs}
    with loader.train_batches(config, layout, **kwargs) as batches:
        taken = list(itertools.islice(batches, count))
    return {name: np.stack([batch[name] for batch in taken]) for name in taken[0]}


def assert_same(left, right):
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)


def rows_in(config, layout=DecoderLayout()):
    """Rows of an epoch."""
    (part,) = parts.parts(parts.components(config, layout), config, layout)
    return len(part.plan())


def key(example):
    """An example as it is cut; one without inputs reads a lone EOS or nothing."""
    inputs = tuple(example["inputs"][: LENGTHS["inputs"]].tolist())
    return (() if inputs == (1,) else inputs), tuple(example["targets"][: LENGTHS["targets"]])


def unpacked(batch):
    """The examples in stacked batches [batches, rows, …], and how often each occurs."""
    rows = {name: values.reshape(-1, values.shape[-1]) for name, values in batch.items()}
    found = Counter()
    for row in range(len(rows["decoder_target_tokens"])):
        tokens = rows["decoder_target_tokens"][row]
        segments, weights = rows["decoder_segment_ids"][row], rows["decoder_loss_weights"][row]
        for segment in range(1, segments.max() + 1):
            own = segments == segment
            if "encoder_input_tokens" in rows:
                read = rows["encoder_input_tokens"][row][
                    rows["encoder_segment_ids"][row] == segment
                ]
            else:
                read = tokens[own & (weights == 0)]
            found[key({"inputs": read, "targets": tokens[own & (weights > 0)]})] += 1
    return found


@LAYOUTS
def test_an_epoch_has_each_example_once_as_the_seqio_step_gives_it(config, layout):
    config = dataclasses.replace(config, mixture_or_task_name="pairs", batch_size=1)
    found = unpacked(take(config, rows_in(config, layout), layout=layout))
    task = seqio.get_mixture_or_task("pairs")
    expected = task.get_dataset(LENGTHS, "train", shuffle=False).as_numpy_iterator()
    assert found == Counter(map(key, expected))


@LAYOUTS
def test_a_mixture_s_examples_have_its_rates(config, layout):
    config = dataclasses.replace(config, batch_size=1)
    found = unpacked(take(config, rows_in(config, layout), layout=layout))
    counts = [sum(found[key(example)] for example in made) for made in (PAIRS, MORE)]
    assert counts == [150, 450]
    assert {found[key(example)] for example in PAIRS} == {1}


@LAYOUTS
def test_batches_are_what_the_layout_says(config, layout):
    batch = take(config, 9, layout=layout)
    spec = layout.spec(LENGTHS)
    assert batch.keys() == spec.keys()
    for name, (shape, dtype) in spec.items():
        assert batch[name].shape == (9, 4, *shape)
        assert batch[name].dtype == dtype
    assert batch["decoder_segment_ids"].max() > 1


def test_a_batch_depends_on_its_step_alone(config):
    whole = take(config, 40)
    for start in (1, 17, 39):
        part = take(config, 40 - start, start_step=start)
        assert_same(part, {name: values[start:] for name, values in whole.items()})


@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_share_the_same_global_batch(config, hosts):
    whole = take(config, 20)
    shares = np.split(np.arange(4), hosts)
    shared = [take(config, 20, local_rows=share) for share in shares]
    joined = {name: np.concatenate([p[name] for p in shared], axis=1) for name in whole}
    assert_same(joined, whole)


def test_worker_processes_give_the_same_batches(config):
    assert_same(take(dataclasses.replace(config, workers=2), 7, start_step=3),
                take(config, 7, start_step=3))  # fmt: skip


def test_each_epoch_has_the_same_rows_in_another_order(config):
    config = dataclasses.replace(config, batch_size=1)
    count = rows_in(config)
    tokens = take(config, 2 * count)["decoder_target_tokens"][:, 0]
    first, second = ([row.tobytes() for row in part] for part in np.split(tokens, 2))
    assert first != second
    assert sorted(first) == sorted(second)
    plain = take(dataclasses.replace(config, shuffle=False), 2 * count)["decoder_target_tokens"]
    np.testing.assert_array_equal(*np.split(plain, 2))


@LAYOUTS
def test_eval_has_each_example_of_each_task_once(config, layout):
    config = dataclasses.replace(config, split="validation", batch_size=5)
    found = loader.eval_batches(config, layout)
    assert list(found) == ["more", "pairs"]
    for name, made in (("pairs", PAIRS), ("more", MORE)):
        batches = list(found[name])
        stacked = {k: np.stack([batch[k] for batch in batches]) for k in batches[0]}
        assert unpacked(stacked) == Counter(map(key, made))
        assert_same(stacked, {k: np.stack([b[k] for b in found[name]]) for k in stacked})
        padding = ~stacked["decoder_loss_weights"].any(axis=-1).ravel()
        assert not padding[: -padding.sum() or None].any(), "rows of zeros come last"
        assert padding.sum() < 5


def test_windows_and_examples_mix_by_rows(config, tmp_path):
    register("news", tmp_path)
    seqio.MixtureRegistry.add("all", [("news_prefix_lm", 1), ("pairs", 1), ("more", 2)])
    lengths = {"inputs": 23, "targets": 23}
    config = dataclasses.replace(
        config, mixture_or_task_name="all", task_feature_lengths=lengths, batch_size=1
    )
    tokens = take(config, 400)["decoder_target_tokens"][:, 0]
    of_news = (tokens > 48).any(axis=1)  # examples have ids below
    assert of_news.sum() == 100
    described = loader.describe(config, DecoderLayout())
    assert described.objectives == ("MTF", "PLM")
    assert "packed, an epoch:" in described.info
    assert_same(take(config, 5, start_step=30),
                {k: v[30:] for k, v in take(config, 35).items()})  # fmt: skip


def test_the_information_tells_rows_padding_and_what_is_cut(config):
    info = loader.describe(config, EncoderDecoderLayout()).info
    columns, more, pairs = info.splitlines()[3:6]
    assert columns.endswith("tokens  examples an epoch  left out  inputs cut  targets cut")
    cut = sum(example["inputs"].size > LENGTHS["inputs"] for example in PAIRS)
    assert pairs.split()[:4] == ["pairs", "MTF", "0.2500", "150"]
    assert f"{cut / 150:.2%}" in pairs
    assert more.split()[5] == "450"
    assert "rows of 36 inputs and 10 targets; 600 examples of" in info
    assert "390 of the examples are repeats, 0 are left out" in info


def test_the_fingerprint_tells_configurations_apart(config):
    others = [
        config,
        dataclasses.replace(config, seed=1),
        dataclasses.replace(config, mixture_or_task_name="pairs"),
        dataclasses.replace(config, task_feature_lengths={"inputs": 35, "targets": 10}),
    ]
    found = [loader.describe(other, DecoderLayout()).fingerprint for other in others]
    assert len(set(found)) == len(others)


def test_lengths_for_both_are_needed(config):
    config = dataclasses.replace(config, task_feature_lengths={"targets": 10})
    with pytest.raises(UserError, match="as_given needs a length for 'inputs'"):
        take(config, 1)


def test_a_task_for_rank_classification_is_not_trained_on(config):
    register_examples("pairs_score_eval", PAIRS, steps=[seqio.CacheDatasetPlaceholder()])
    config = dataclasses.replace(config, mixture_or_task_name="pairs_score_eval")
    message = "'pairs_score_eval' is for rank classification.* take 'pairs', without '_score_eval'"
    for check in (loader.check_names, lambda c: take(c, 1)):
        with pytest.raises(UserError, match=message):
            check(config)


def test_a_mixture_has_one_vocabulary(config):
    register_examples("odd", PAIRS, vocabulary=seqio.ByteVocabulary(extra_ids=3))
    seqio.MixtureRegistry.add("differing", ["pairs", "odd"], default_rate=1)
    config = dataclasses.replace(config, mixture_or_task_name="differing")
    with pytest.raises(UserError, match="tasks 'odd' and 'pairs' have different vocabularies"):
        take(config, 1)


def test_a_task_s_kinds_do_not_share_a_cache(tmp_path):
    """The same name, source and steps; the objective says what a document is."""
    given = register_examples("kind", PAIRS)
    windows = given.replace(preprocessors=[seqio.CacheDatasetPlaceholder(), FullLm()])
    assert declaration.folder(given) != declaration.folder(windows)

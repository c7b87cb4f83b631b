import dataclasses
import itertools
import subprocess
import sys

import numpy as np
import pytest
import seqio

from archobj_jax.data import loader, parts, registry, vocabularies
from archobj_jax.errors import MachineError, UserError
from archobj_jax.objectives import DecoderLayout, EncoderDecoderLayout, FullLm
from tasks.pretraining import register_text_corpus
from tests.data.corpora import byte_vocabulary, register, register_steps, texts, write_files

LENGTHS = {
    "full_lm": {"targets": 48},
    "prefix_lm": {"inputs": 24, "targets": 24},
    "span_corruption": {"inputs": 40, "targets": 10},
}


@pytest.fixture
def config(tmp_path):
    register("news", tmp_path)
    return loader.DatasetConfig(
        "news_full_lm", {"targets": 48}, "train", 4, cache_dir=str(tmp_path / "cache")
    )


def take(config, count, *, layout=None, **kwargs):
    """Returns `count` batches, each feature stacked over batches."""
    kwargs = {"start_step": 0, **kwargs}
    with loader.train_batches(config, layout or DecoderLayout(), **kwargs) as batches:
        taken = list(itertools.islice(batches, count))
    return {name: np.stack([batch[name] for batch in taken]) for name in taken[0]}


def assert_same(left, right):
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)


@pytest.mark.parametrize("layout", [DecoderLayout(), EncoderDecoderLayout()])
@pytest.mark.parametrize("objective", LENGTHS)
def test_batches_are_what_the_layout_says(config, objective, layout):
    lengths = LENGTHS[objective]
    config = dataclasses.replace(
        config, mixture_or_task_name=f"news_{objective}", task_feature_lengths=lengths
    )
    batch = take(config, 1, layout=layout)
    spec = layout.spec(lengths)
    assert batch.keys() == spec.keys()
    for name, (shape, dtype) in spec.items():
        assert batch[name].shape == (1, 4, *shape)
        assert batch[name].dtype == dtype
    assert (batch["decoder_target_tokens"] > 0).mean() > 0.995


@pytest.mark.parametrize("objective", LENGTHS)
def test_a_batch_depends_on_its_step_alone(config, objective):
    config = dataclasses.replace(
        config,
        mixture_or_task_name=f"news_{objective}",
        task_feature_lengths=LENGTHS[objective],
    )
    whole = take(config, 40)  # more than one epoch
    for start in (1, 17, 39):
        part = take(config, 40 - start, start_step=start)
        assert_same(part, {name: values[start:] for name, values in whole.items()})


@pytest.mark.parametrize("hosts", [1, 2, 4])
def test_hosts_share_the_same_global_batch(config, hosts):
    whole = take(config, 30)
    shares = np.split(np.arange(4), hosts)
    parts = [take(config, 30, local_rows=share) for share in shares]
    joined = {name: np.concatenate([p[name] for p in parts], axis=1) for name in whole}
    assert_same(joined, whole)


def test_local_rows_come_in_the_order_wanted(config):
    whole, part = take(config, 5), take(config, 5, local_rows=np.array([3, 0]))
    assert_same(part, {name: values[:, [3, 0]] for name, values in whole.items()})


def test_worker_processes_give_the_same_batches(config):
    assert_same(take(dataclasses.replace(config, workers=2), 7, start_step=3),
                take(config, 7, start_step=3))  # fmt: skip


def test_seeds_and_epochs_differ(config):
    rows = {
        row.tobytes()
        for seed in (0, 1)
        for row in take(dataclasses.replace(config, seed=seed), 40)[
            "decoder_target_tokens"
        ].reshape(-1, 48)
    }
    assert len(rows) > 310  # of 320: hardly a row comes twice


def test_unshuffled_rows_come_in_order(config):
    config = dataclasses.replace(config, shuffle=False)
    first = take(config, 3)["decoder_target_tokens"].reshape(-1, 48)
    layout = DecoderLayout()
    (part,) = parts.parts(parts.components(config, layout), config, layout)
    rows = part.rows()
    np.testing.assert_array_equal(
        first, np.stack([rows[i]["decoder_target_tokens"] for i in range(12)])
    )


def test_mixtures_follow_their_rates(config, tmp_path):
    register("tales", tmp_path, seed=7, documents=200)
    seqio.MixtureRegistry.add("both", [("news_full_lm", 1), ("tales_full_lm", 3)])
    mixed = dataclasses.replace(config, mixture_or_task_name="both")
    batches = take(mixed, 50)["decoder_target_tokens"].reshape(-1, 48)
    tales = dataclasses.replace(config, mixture_or_task_name="tales_full_lm")
    known = {row.tobytes() for row in take(tales, 38)["decoder_target_tokens"].reshape(-1, 48)}
    assert sum(row.tobytes() in known for row in batches) == 150
    assert_same(take(mixed, 10, start_step=40),
                {k: v[40:] for k, v in take(mixed, 50).items()})  # fmt: skip


def test_eval_is_one_pass_in_order_filled_with_zeros(config):
    config = dataclasses.replace(config, split="validation", batch_size=5)
    found = loader.eval_batches(config, DecoderLayout())
    assert list(found) == ["news_full_lm"]
    batches = list(found["news_full_lm"])
    assert len(batches) == len(found["news_full_lm"])
    rows = np.concatenate([batch["decoder_target_tokens"] for batch in batches])
    weights = np.concatenate([batch["decoder_loss_weights"] for batch in batches])
    real = weights.any(axis=1)
    assert (real == (np.arange(len(rows)) < real.sum())).all()
    assert not rows[~real].any()
    assert len(rows) - real.sum() < 5
    again = np.concatenate([b["decoder_target_tokens"] for b in found["news_full_lm"]])
    np.testing.assert_array_equal(again, rows)
    halves = [
        [b["decoder_target_tokens"] for b in part["news_full_lm"]]
        for part in (
            loader.eval_batches(config, DecoderLayout(), local_rows=np.array(share))
            for share in ([0, 1], [2, 3, 4])
        )
    ]
    joined = [np.concatenate(pair) for pair in zip(*halves, strict=True)]
    np.testing.assert_array_equal(np.concatenate(joined), rows)


def test_eval_stops_after_num_batches(config):
    found = loader.eval_batches(config, DecoderLayout(), num_batches=2)
    assert len(list(found["news_full_lm"])) == 2


def test_the_fingerprint_tells_configurations_apart(config, tmp_path):
    register("tales", tmp_path, seed=7)
    others = [
        config,
        dataclasses.replace(config, seed=1),
        dataclasses.replace(config, batch_size=8),
        dataclasses.replace(config, task_feature_lengths={"targets": 47}),
        dataclasses.replace(config, mixture_or_task_name="tales_full_lm"),
        dataclasses.replace(config, split="validation"),
    ]
    found = [loader.describe(other, DecoderLayout()).fingerprint for other in others]
    assert len(set(found)) == len(others)
    assert (
        loader.describe(dataclasses.replace(config, workers=3), DecoderLayout()).fingerprint
        == found[0]
    )


def test_a_description_names_objective_and_vocabulary(config):
    described = loader.describe(config, DecoderLayout())
    assert described.objectives == (FullLm.symbol,)
    assert described.vocab_size == byte_vocabulary().vocab_size
    assert loader.vocabulary(config) == {
        "title": vocabularies.title(byte_vocabulary()),
        "fingerprint": vocabularies.fingerprint(byte_vocabulary()),
    }


def test_a_description_says_what_the_data_are(config):
    head, vocabulary, _, columns, row = loader.describe(config, DecoderLayout()).info.splitlines()
    assert head == "news_full_lm, split train, lengths targets 48"
    assert vocabulary.startswith("vocabulary ByteVocabulary, fingerprint ")
    assert columns.split() == ["task", "objective", "rate", "documents", "tokens"]
    size = sum(map(len, texts(60)))
    assert row.split() == ["news_full_lm", "FLM", "1.0000", "60", f"{size:,}"]


def test_a_mixture_has_one_vocabulary(config, tmp_path):
    train = write_files(tmp_path / "small", texts(10), 1)
    other = seqio.ByteVocabulary(extra_ids=7)
    register_text_corpus("small", train=train, held_out=0, vocabulary=other)
    seqio.MixtureRegistry.add("both", ["news_full_lm", "small_full_lm"], default_rate=1)
    config = dataclasses.replace(config, mixture_or_task_name="both")
    message = "'news_full_lm' and 'small_full_lm' have different vocabularies, ByteV.* one for all"
    with pytest.raises(UserError, match=message):
        loader.describe(config, DecoderLayout())


def test_lengths_that_the_layout_cannot_have_are_an_error(config):
    config = dataclasses.replace(config, mixture_or_task_name="news_prefix_lm")
    with pytest.raises(UserError, match="an encoder-decoder needs a length for 'inputs'"):
        loader.describe(config, EncoderDecoderLayout())


def test_a_damaged_record_reaches_the_caller(config):
    take(config, 1)
    (path,) = registry_shards(config, "shard-00000")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    for workers in (0, 1):
        with pytest.raises(MachineError, match="record 0, is damaged"):
            take(dataclasses.replace(config, workers=workers), 40)


def registry_shards(config, name):
    from pathlib import Path

    return Path(config.cache_dir).glob(f"*/train/{name}*.array_record")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"mixture_or_task_name": "news_ful_lm"},
            "named 'news_ful_lm'.* Did you mean 'news_full_lm'",
        ),
        ({"split": "tran"}, "no split 'tran'. Did you mean 'train'"),
        ({"module": "no_such_module"}, "no module is named 'no_such_module'"),
        (
            {"task_feature_lengths": {"targets": 10**6}},
            "'news_full_lm', split 'train'.* fewer than",
        ),
        ({"task_feature_lengths": {"target": 48}}, "no feature 'target'.* Did you mean 'targets'"),
    ],
)
def test_mistakes_are_one_message(config, change, message):
    with pytest.raises(UserError, match=message):
        take(dataclasses.replace(config, **change), 1)


def test_a_batch_has_at_least_one_row(config):
    with pytest.raises(UserError, match="BATCH_SIZE is 0"):
        dataclasses.replace(config, batch_size=0)


@pytest.mark.parametrize(("name", "value"), [("workers", -1), ("threads", 0), ("prefetch", 0)])
def test_what_makes_batches_ahead_is_checked(config, name, value):
    with pytest.raises(UserError, match=f"DatasetConfig.{name} is {value}; expected at least"):
        dataclasses.replace(config, **{name: value})


def test_rows_that_are_not_of_the_batch_are_refused(config):
    with pytest.raises(ValueError, match=r"expected rows of 0\.\.3"):
        take(config, 1, local_rows=np.array([4]))


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([FullLm()], r"has no seqio\.CacheDatasetPlaceholder\(\)"),
        ([seqio.CacheDatasetPlaceholder()], "has nothing after its CacheDatasetPlaceholder"),
        (
            [seqio.CacheDatasetPlaceholder(), FullLm(), seqio.preprocessors.append_eos],
            "has FullLm, append_eos after its CacheDatasetPlaceholder; expected one objective",
        ),
        ([seqio.CacheDatasetPlaceholder(), FullLm()], "steps before its CacheDatasetPlaceholder"),
    ],
)
def test_a_task_of_another_form_is_explained(config, steps, message):
    source = seqio.get_mixture_or_task("news_full_lm").source
    register_steps("odd", source, steps)
    with pytest.raises(UserError, match=message):
        take(dataclasses.replace(config, mixture_or_task_name="odd"), 1)


def test_features_must_share_a_vocabulary():
    features = {
        "inputs": seqio.Feature(seqio.ByteVocabulary(), add_eos=False),
        "targets": seqio.Feature(byte_vocabulary(), add_eos=False),
    }
    task = seqio.get_mixture_or_task("embedded_full_lm").replace(output_features=features)
    with pytest.raises(UserError, match="vocabulary of feature 'inputs'"):
        registry.vocabulary(task)


def test_workers_need_no_tensorflow():
    code = "import sys, archobj_jax.data.batches as b; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

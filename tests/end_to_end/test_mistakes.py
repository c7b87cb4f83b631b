"""What a user gets wrong: one message, exit status 2, nothing half-written."""

import shutil
from pathlib import Path

import pytest

from tests.end_to_end import runs


def message(capfd: pytest.CaptureFixture) -> str:
    """The last line of stderr, which must be the only error."""
    lines = capfd.readouterr().err.splitlines()
    errors = [line for line in lines if line.startswith("archobj: error: ")]
    assert errors == lines[-1:]
    return errors[0].removeprefix("archobj: error: ")


@pytest.mark.parametrize(
    ("bindings", "expected"),
    [
        (
            {"network__NetworkConfig__embdim": 4},
            "embdim",
        ),
        (
            {"TRAIN_STEP": 4},
            "TRAIN_STEPS",
        ),
        (
            {"MIXTURE_OR_TASK_NAME": "words_ful_lm"},
            "Did you mean 'words_full_lm'",
        ),
        (
            {"MIXTURE_OR_TASK_MODULE": "tests.end_to_end.word_task"},
            "tests.end_to_end.word_task",
        ),
        (
            {"MIXTURE_OR_TASK_NAME": "wordless_full_lm"},
            "task 'wordless_full_lm', split 'train', is empty",
        ),
        (
            {"BATCH_SIZE": 12},
            "BATCH_SIZE = 12 does not divide over the 8 devices",
        ),
        (
            {"partitioner__Partitioner__tensor": 3},
            "does not fill the 8 devices",
        ),
        (
            {"BATCH_SIZE": 4},
            "BATCH_SIZE = 4 does not divide over the 8 devices of the mesh axes ('data', 'fsdp')",
        ),
        (
            {"partitioner__Partitioner__fsdp": -1},
            "data and fsdp are both -1; one axis alone",
        ),
        (
            {
                "partitioner__Partitioner__tensor": 2,
                "partitioner__Partitioner__num_partitions": 4,
            },
            "Partitioner.tensor = 2 and Partitioner.num_partitions = 4 contradict each other",
        ),
        (
            {"partitioning__PjitPartitioner__num_partitions": 2},
            "Did you mean 'partitioner.Partitioner'",
        ),
        (
            {"partitioner__Partitioner__rules": (("mlp", "tensors"),)},
            "'mlp' is laid on 'tensors'; mesh axes are data, fsdp, sequence, tensor. Did you mean "
            "'tensor'?",
        ),
        (
            {"partitioner__Partitioner__rules": (("mpl", "tensor"),)},
            "there is no logical axis 'mpl', so its rule would do nothing. Did you mean 'mlp'?",
        ),
        (
            {"preset": "fsdp", "partitioner__Partitioner__largest_unsharded_bytes": 100},
            "--gin.Partitioner.largest_unsharded_bytes=2048",
        ),
        (
            {"partitioner__Partitioner__sequence": 2, "TASK_FEATURE_LENGTHS": {"targets": 47}},
            "TASK_FEATURE_LENGTHS: decoder_target_tokens have length 47",
        ),
        (
            {"TASK_FEATURE_LENGTHS": {"targets": 1}, "MIXTURE_OR_TASK_NAME": "words_prefix_lm"},
            "targets",
        ),
        (
            {"TASK_FEATURE_LENGTHS": {"inputs": 48, "targets": 48}},
            "targets",
        ),
        (
            {"VOCAB_SIZE": 128},
            "NetworkConfig.vocab_size = 128 is smaller than the vocabulary of words_full_lm, 359; "
            "use 384.",
        ),
        (
            {"TRAIN_STEPS": 0},
            "total_steps = 0: must be at least 1",
        ),
        (
            {"trainer__Trainer__num_microbatches": 3},
            "num_microbatches = 3 does not divide BATCH_SIZE = 8",
        ),
        (
            {"trainer__Trainer__num_microbatches": 2},
            "num_microbatches = 2 leaves 4 rows to a microbatch",
        ),
        (
            {"trainer__Trainer__on_nonfinite": "go"},
            "on_nonfinite = 'go': must be one of stop, skip",
        ),
    ],
)
def test_a_mistake_is_one_message_and_leaves_nothing(bindings, expected, tmp_path, capfd):
    model_dir = tmp_path / "run"
    assert runs.here(model_dir, **bindings) == 2
    assert expected in message(capfd)
    assert not model_dir.exists()


def test_a_missing_gin_file(tmp_path, capfd):
    from archobj_jax import cli

    arguments = runs.arguments(tmp_path / "run")
    assert cli.main([a.replace("cd_flm.gin", "cd_flmm.gin") for a in arguments]) == 2
    assert "cd_flmm.gin" in message(capfd)
    assert not (tmp_path / "run").exists()


@pytest.fixture
def own_cache(work: Path, undisturbed: Path, tmp_path: Path) -> Path:
    """A copy of the token cache."""
    assert undisturbed.exists()
    shutil.copytree(work / "cache", tmp_path / "cache")
    return tmp_path / "cache"


def test_a_cache_of_another_vocabulary(own_cache, tmp_path, capfd):
    for manifest in own_cache.rglob("manifest.json"):
        text = manifest.read_text()
        start = text.index('"vocabulary_fingerprint": "') + len('"vocabulary_fingerprint": "')
        manifest.write_text(text[:start] + "0123abcd" + text[start + 8 :])
    assert runs.here(tmp_path / "run", CACHE_DIR=own_cache) == 2
    assert "was made with another vocabulary" in message(capfd)
    assert not (tmp_path / "run").exists()


def test_a_truncated_shard(own_cache, tmp_path, capfd):
    for shard in own_cache.rglob("*.array_record"):
        shard.write_bytes(shard.read_bytes()[:-100])
    assert runs.here(tmp_path / "run", CACHE_DIR=own_cache) == 74
    assert "array_record" in message(capfd)
    assert not (tmp_path / "run").exists()

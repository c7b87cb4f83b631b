"""What a run leaves to read: metrics.jsonl, TensorBoard, config.gin, model-info.txt, progress."""

import json
import logging
import os
import pty
import subprocess
import sys
import termios

import jax
import pytest
import tensorflow as tf

from archobj_jax import cli
from archobj_jax.training import compilation, evaluation
from tests.end_to_end import runs

EXACT = {
    "step", "loss", "z_loss", "accuracy", "learning_rate", "gradient_norm", "update_norm",
    "parameter_norm", "target_tokens", "tokens_seen", "skipped_steps",
}  # fmt: skip
HELD_OUT = {"loss", "z_loss", "accuracy", "target_tokens"}


def test_metrics_have_one_object_a_record_with_these_fields(undisturbed):
    records = [json.loads(line) for line in (undisturbed / "metrics.jsonl").open()]
    train = [record for record in records if "loss" in record]
    assert [record["step"] for record in train] == [2, 4, 6, 8, 10, 12]
    for record in train:
        assert set(record) == EXACT | runs.TIMES
        assert record["target_tokens"] == 8 * 48
        assert record["tokens_seen"] == record["step"] * 8 * 48
        assert 0.0 < record["seconds_per_step"] < 60.0
        assert record["tokens_per_second"] * record["seconds_per_step"] == pytest.approx(8 * 48)
        assert 0.0 < record["share_of_peak"] < 1.0
        assert 0.0 <= record["input_wait_share"] <= 1.0
    assert train[0]["save_write_seconds"] == 0.0
    assert 0.0 < train[-1]["save_write_seconds"] < 60.0
    held_out = [record for record in records if "loss" not in record]
    assert [record["step"] for record in held_out] == [6, 12]
    for record in held_out:
        assert {f"eval/words_full_lm/{name}" for name in HELD_OUT} <= set(record)


def events(model_dir) -> list:
    """What TensorBoard reads, file by file."""
    files = sorted((model_dir / "tensorboard").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    read = tf.compat.v1.train.summary_iterator
    return [event for path in files for event in read(str(path))]


def scalars(model_dir, name: str) -> dict[int, float]:
    """One curve."""
    return {
        event.step: value.simple_value
        for event in events(model_dir)
        for value in event.summary.value
        if value.tag == name
    }


def test_tensorboard_has_the_same_numbers(undisturbed):
    for name in (EXACT | runs.TIMES) - {"step"}:
        assert list(scalars(undisturbed, f"train/{name}")) == [2, 4, 6, 8, 10, 12]
    found = list(scalars(undisturbed, "train/loss").values())
    assert found == pytest.approx(runs.losses(undisturbed), rel=1e-6)
    assert list(scalars(undisturbed, "eval/words_full_lm/loss")) == [6, 12]


def test_tensorboard_hides_what_a_later_life_records_anew(tmp_path):
    assert runs.here(tmp_path, TRAIN_STEPS=6) == 0
    assert runs.here(tmp_path) == 0
    found = events(tmp_path)
    starts = [e.step for e in found if e.session_log.status == tf.compat.v1.SessionLog.START]
    assert starts == [7]
    assert list(scalars(tmp_path, "train/loss")) == [2, 4, 6, 8, 10, 12]


def test_config_gin_gives_the_same_configuration_again(undisturbed, tmp_path):
    config = (undisturbed / "config.gin").read_text()
    given = ["train", f"--gin_file={undisturbed}/config.gin", f"--gin.MODEL_DIR={tmp_path}"]
    assert cli.main(given) == 0
    again = (tmp_path / "config.gin").read_text()
    assert again.replace(str(tmp_path), str(undisturbed)) == config
    assert runs.checksum(tmp_path) == runs.checksum(undisturbed)
    assert (tmp_path / "model-info.txt").read_text() == (undisturbed / "model-info.txt").read_text()


def test_what_is_kept(tmp_path):
    keep = {"keep": 1, "keep_period": 5, "keep_best": 1, "period": 1}
    bindings = {f"checkpoints__SaveCheckpointConfig__{k}": v for k, v in keep.items()}
    assert runs.here(tmp_path, **bindings, train__train__eval_period=3) == 0
    # The loss falls all the way, so the best is the last; 12 was evaluated last.
    assert runs.checkpoints(tmp_path) == [5, 10, 12]


def test_the_best_is_kept_though_it_is_old(tmp_path, monkeypatch):
    losses = iter([1.0, 3.0, 2.0, 4.0])
    monkeypatch.setattr(evaluation.Evaluation, "evaluate", lambda *_: ({}, next(losses)))
    keep = {"checkpoints__SaveCheckpointConfig__keep": 1}
    assert runs.here(tmp_path, **keep, train__train__eval_period=3) == 0
    assert runs.checkpoints(tmp_path) == [3, 12]


def test_the_step_is_compiled_once_and_its_state_donated(tmp_path, monkeypatch, caplog):
    donated = []
    compile_step = compilation.compile_step

    def watched(*arguments):
        step = compile_step(*arguments)

        def call(state, batch):
            new = step(state, batch)
            donated.append(all(leaf.is_deleted() for leaf in jax.tree.leaves(state)))
            return new

        return call

    monkeypatch.setattr(compilation, "compile_step", watched)

    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        assert runs.here(tmp_path) == 0
    compiled = [line for line in caplog.messages if line.startswith("Compiling jit(step)")]
    assert len(compiled) == 2, "the train step, and the evaluation step"
    # While a save reads it, the state is left alone.
    assert donated == [step not in (4, 7, 10) for step in range(1, 13)]


def test_a_second_run_compiles_nothing_that_took_long(tmp_path, undisturbed):
    hits = []

    def count(event, **_):
        if event == "/jax/compilation_cache/cache_hits":
            hits.append(event)

    assert undisturbed.exists()
    jax.clear_caches()
    jax.monitoring.register_event_listener(count)
    try:
        assert runs.here(tmp_path) == 0
    finally:
        jax.monitoring.unregister_event_listener(count)
    assert hits


def test_without_a_terminal_there_are_plain_lines(tmp_path, capfd):
    assert runs.here(tmp_path) == 0
    printed = capfd.readouterr().err
    assert "\r" not in printed
    assert "step 1 of 12" in printed
    assert "step 12 of 12  loss " in printed


def test_on_a_terminal_there_is_a_bar(tmp_path):
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (24, 120))
    process = subprocess.Popen(
        [sys.executable, "-m", "archobj_jax", *runs.arguments(tmp_path)],
        cwd=runs.ROOT,
        env=runs.environment(8),
        stdout=subprocess.DEVNULL,
        stderr=follower,
    )
    os.close(follower)
    printed = b""
    try:
        while part := os.read(leader, 4096):
            printed += part
    except OSError:  # what Linux says when the other end is closed
        pass
    assert process.wait() == 0
    assert b"\r" in printed
    assert b"12/12 [" in printed

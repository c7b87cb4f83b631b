"""A checkpoint on its way, pretrained, adapted, finetuned: what goes on, and what it remembers."""

import functools
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from archobj_jax import cli
from archobj_jax.training import restoring
from tests.end_to_end import killing, runs

NC_A = "adapt_cd_flm_to_nd_mlm"
MTF = "mtf_nd_from_nd_mlm"
PLANETS: dict[str, Any] = {
    "HELD_OUT_MIXTURE_OR_TASK_NAME": "planets_train",
    "INFER_EVAL_MIXTURE_OR_TASK_NAME": "planets_score_eval",
}


def lineage(folder: Path) -> list[dict[str, Any]]:
    return restoring.read_about(restoring.find_checkpoint(str(folder)))["lineage"]


def last(capfd: pytest.CaptureFixture) -> str:
    return capfd.readouterr().err.splitlines()[-1]


@pytest.fixture(scope="module")
def adapted(undisturbed: Path, work: Path) -> Path:
    folder = work / "adapted"
    assert runs.here(folder, NC_A, INITIAL_CHECKPOINT_PATH=undisturbed, TRAIN_STEPS=20) == 0
    return folder


@pytest.fixture(scope="module")
def finetuned(adapted: Path, work: Path) -> Path:
    folder = work / "finetuned"
    settings = {**PLANETS, "INITIAL_CHECKPOINT_PATH": adapted, "TRAIN_STEPS": 26}
    assert runs.here(folder, MTF, **settings) == 0
    return folder


def test_an_adapted_run_goes_on_counting_and_is_evaluated_before_its_first_step(adapted):
    records = runs.metrics(adapted)
    assert [r["step"] for r in records if "eval/words_span_corruption/loss" in r] == [12, 18, 20]
    assert [r["step"] for r in records if "loss" in r] == [14, 16, 18, 20]
    assert runs.checkpoints(adapted)[-1] == 20
    # 1 / sqrt(step) after the warm-up of 100: the schedule goes on too.
    rates = {r["step"]: r["learning_rate"] for r in records if "loss" in r}
    assert rates[20] == pytest.approx(19 / 100 / 10)


def test_every_checkpoint_carries_its_ancestry(finetuned, adapted, undisturbed):
    pretraining, adaptation, finetuning = lineage(finetuned)
    assert [pretraining, adaptation] == lineage(adapted)
    assert [pretraining] == lineage(undisturbed)
    assert [stage["stage"] for stage in lineage(finetuned)] == ["pretrain", "adapt", "finetune"]
    assert (adaptation["start_step"], adaptation["step"]) == (12, 20)
    assert adaptation["tokens"] == sum(
        r["tokens_seen"] for r in runs.metrics(adapted) if r["step"] == 20 and "loss" in r
    )
    assert finetuning["objective"] == "MTF"


def test_lineage_is_printed_in_the_papers_notation(finetuned, capsys):
    assert cli.main(["lineage", str(finetuned)]) == 0
    printed = capsys.readouterr().out.splitlines()
    tokens = [stage["tokens"] for stage in lineage(finetuned)]
    first, second, third = (f"{count / 1000:.3g}K" for count in tokens)
    assert printed[0] == f"CD:FLM ({first}) → ND:MLM ({second}) → ND:MTF ({third})"
    assert printed[2].split() == ["stage", "model", "steps", "tokens", "config", "data", "run"]
    assert printed[4].split()[:6] == ["adapt", "ND:MLM", "12", "to", "20", second]


def test_finetuning_records_held_out_loss_and_rank_accuracy(finetuned):
    first = next(r for r in runs.metrics(finetuned) if r["step"] == 20)
    assert {name.split("/")[0] for name in first if "/" in name} == {"eval", "infer_eval"}
    ranked = "infer_eval/planets_rock_or_gas__score_eval"
    assert first[f"{ranked}/chance"] == 50.0
    assert 0.0 <= first[f"{ranked}/accuracy"] <= 100.0
    rates = [r["learning_rate"] for r in runs.metrics(finetuned) if "loss" in r]
    assert rates == [pytest.approx(0.001)] * len(rates)


def test_what_was_cached_and_packed_is_described(finetuned):
    text = (finetuned / "data-info.txt").read_text()
    assert "planets_a_moon" in text
    assert "padding" in text


def failing(rows: Any) -> Any:
    raise RuntimeError("lost power")


def terminated(rows: Any) -> Any:
    os.kill(os.getpid(), signal.SIGTERM)
    return rows


def test_an_adaptation_cut_off_anywhere_ends_as_if_it_never_was(
    undisturbed, adapted, tmp_path, monkeypatch
):
    adapt = functools.partial(
        runs.here, tmp_path, NC_A, INITIAL_CHECKPOINT_PATH=undisturbed, TRAIN_STEPS=20
    )
    with monkeypatch.context() as patch:
        killing.on_batch(patch, 4, failing)  # before anything of the stage is saved
        with pytest.raises(RuntimeError, match="lost power"):
            adapt()
    assert runs.checkpoints(tmp_path) == []
    with monkeypatch.context() as patch:
        killing.on_batch(patch, 10, terminated)
        assert adapt() == 75
    assert adapt() == 0
    assert runs.checksum(tmp_path) == runs.checksum(adapted)
    assert runs.metrics(tmp_path) == runs.metrics(adapted)


def test_the_shell_can_take_the_rules_that_are_suggested(undisturbed, tmp_path, capfd):
    from_cd = {"INITIAL_CHECKPOINT_PATH": undisturbed, "TRAIN_STEPS": 14}
    adapt = functools.partial(runs.here, tmp_path, "ed_mlm", gin_file="adapt", **from_cd)
    assert adapt() == 2
    flag = re.search(r"--gin.INITIAL_CHECKPOINT_RULES='(.*)'", capfd.readouterr().err)
    assert flag is not None
    assert flag[1] == '("positions_shared", "fill_encoder",)'
    assert adapt(INITIAL_CHECKPOINT_RULES=flag[1]) == 0
    assert "5 parameters initialised anew" in capfd.readouterr().err


def test_a_run_that_cannot_start_leaves_nothing(tmp_path, capfd):
    assert runs.here(tmp_path / "run", NC_A, INITIAL_CHECKPOINT_PATH=tmp_path / "none") == 2
    assert not (tmp_path / "run").exists()
    assert runs.here(tmp_path / "run", "nd_mlm", INITIAL_CHECKPOINT_PATH=tmp_path) == 2
    assert "add --gin_file=t5x_configs/runs/adapt.gin" in last(capfd)


def test_one_folder_holds_one_stage(adapted, undisturbed, capfd):
    assert runs.here(undisturbed, NC_A, INITIAL_CHECKPOINT_PATH=undisturbed) == 2
    assert "is of another stage, pretrain CD:FLM, than this run, adapt ND:MLM" in last(capfd)
    assert runs.checkpoints(undisturbed)[-1] == 12


@pytest.mark.parametrize(
    ("bindings", "expected"),
    [
        ({"TRAIN_STEPS": 12}, "checkpoint_12 is at step 12 already; expected more"),
        ({"INITIAL_CHECKPOINT_PATH": "/none"}, "INITIAL_CHECKPOINT_PATH: /none does not exist"),
        (
            {"network__NetworkConfig__mlp_dim": 32},
            "decoder/layers/mlp/wi_0/kernel: [2, 32, 32] here, [2, 32, 64] there",
        ),
        (
            {"MIXTURE_OR_TASK_NAME": "embedded_span_corruption", "VOCAB_SIZE": 4224},
            "was trained with the vocabulary",
        ),
        (
            {"INITIAL_CHECKPOINT_RULES": "('take_decodr',)"},
            "there is no rule 'take_decodr'",
        ),
        (
            {"adaptation__InitialCheckpoint__step": "on"},
            "InitialCheckpoint.step = 'on': must be one of continue, zero",
        ),
    ],
)
def test_mistakes_are_one_message(bindings, expected, undisturbed, tmp_path, capfd):
    bindings = {"INITIAL_CHECKPOINT_PATH": undisturbed, **bindings}
    assert runs.here(tmp_path, NC_A, **bindings) == 2
    told = capfd.readouterr().err
    assert told.count("archobj: error: ") == 1
    assert expected in told
    assert not (tmp_path / "metrics.jsonl").exists()

"""`archobj evaluate`: what it writes, on any mesh, after kills, with tasks that fail."""

import json
import math
from pathlib import Path
from typing import Any

import jax
import pytest

from archobj_jax import cli
from archobj_jax.inference import journal
from archobj_jax.inference.scoring import Scoring
from tests.end_to_end import runs, several
from tests.end_to_end.corpus import VOCAB_SIZE
from tests.end_to_end.test_meshes import on
from tests.end_to_end.test_mistakes import message

BOTH = ("planets_score_eval", "words_full_lm")


def evaluate(checkpoint: Path, output_dir: Path, **bindings: object) -> int:
    return cli.main(runs.evaluation_arguments(checkpoint, output_dir, **bindings))


def read(output_dir: Path) -> dict[str, Any]:
    return json.loads((output_dir / "results.json").read_text())


@pytest.fixture(scope="module")
def results(undisturbed: Path, work: Path) -> Path:
    with pytest.MonkeyPatch.context() as patched:
        on(patched, 1)
        assert evaluate(undisturbed, work / "results", MIXTURE_OR_TASK_NAME=BOTH) == 0
    return work / "results"


def test_ranked_tasks_and_a_corpus_in_one_file(results: Path, undisturbed: Path):
    found = read(results)
    assert found["checkpoint"]["lineage"]["notation"].startswith("CD:FLM (")
    assert found["checkpoint"]["step"] == 12
    kinds = {name: task["kind"] for name, task in found["tasks"].items()}
    assert kinds.pop("words_full_lm") == "loss"
    assert set(kinds.values()) == {"rank"}
    corpus = found["tasks"]["words_full_lm"]
    nats = sum(example["nats"] for example in corpus["examples"])
    size = sum(example["bytes"] for example in corpus["examples"])
    bits = corpus["metrics"]["bits_per_byte"]["value"]
    assert bits == pytest.approx(nats / math.log(2) / size)
    assert corpus["counts"]["tokens"] == corpus["counts"]["bytes"] == size  # a byte is a token
    low, high = corpus["metrics"]["bits_per_byte"]["interval"]
    assert low < bits < high
    for name in kinds:
        task = found["tasks"][name]
        right = [e["predictions"]["accuracy"] in e["gold"] for e in task["examples"]]
        assert task["metrics"]["accuracy"]["value"] == pytest.approx(100 * sum(right) / len(right))


def test_a_mesh_finds_what_one_device_finds(results: Path, undisturbed: Path, tmp_path):
    axes = {f"partitioner__Partitioner__{axis}": 2 for axis in ("fsdp", "tensor")}
    assert evaluate(undisturbed, tmp_path, **axes) == 0
    assert_equal(read(tmp_path), read(results))


def test_two_processes_find_what_one_finds(results: Path, undisturbed: Path, tmp_path):
    codes, printed = several.ended(several.start(runs.evaluation_arguments(undisturbed, tmp_path)))
    assert codes == [0, 0], printed
    assert_equal(read(tmp_path), read(results))


def assert_equal(found: dict[str, Any], expected: dict[str, Any]) -> None:
    for name, task in found["tasks"].items():
        for ours, theirs in zip(task["examples"], expected["tasks"][name]["examples"], strict=True):
            for mine, other in zip(ours["choices"], theirs["choices"], strict=True):
                assert mine["log_likelihood"] == pytest.approx(other["log_likelihood"], abs=1e-4)


def test_a_killed_evaluation_ends_with_the_same_file(undisturbed: Path, tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "_SECONDS", -1.0)  # a file for each batch
    on(monkeypatch, 1)
    few = {"evaluate__evaluate__batch_tokens": 64, "NUM_EXAMPLES": 12}
    score, count, dies_at = Scoring.score, 0, 0

    def dying(self: Scoring, *arguments: Any) -> Any:
        nonlocal count
        count += 1
        if count == dies_at:
            raise KeyboardInterrupt
        return score(self, *arguments)

    monkeypatch.setattr(Scoring, "score", dying)
    assert evaluate(undisturbed, tmp_path / "whole", **few) == 0
    batches = count
    assert batches >= 8
    for moment in (2, batches // 2, batches // 3):
        count, dies_at = 0, moment
        assert evaluate(undisturbed, tmp_path / "killed", **few) == 130
        assert not (tmp_path / "killed" / "results_first_12.json").exists()
    count = dies_at = 0
    assert evaluate(undisturbed, tmp_path / "killed", **few) == 0
    assert count == batches - 1 - (batches // 2 - 1) - (batches // 3 - 1)
    whole, killed = (
        (tmp_path / n / "results_first_12.json").read_text() for n in ("whole", "killed")
    )
    assert killed == whole


def test_failing_tasks_leave_the_others(undisturbed: Path, tmp_path, capfd):
    names = ("planets_score_eval", "mute_it_score_eval", "odd_full_lm")
    assert evaluate(undisturbed, tmp_path, MIXTURE_OR_TASK_NAME=names) == 2
    told = message(capfd)
    assert "2 of 3 tasks failed: mute_it_score_eval, odd_full_lm" in told
    found = read(tmp_path)
    assert "choice 1, ''" in found["failed"]["mute_it_score_eval"]
    assert "tokenises to nothing" in found["failed"]["mute_it_score_eval"]
    assert "odd_full_lm has the vocabulary" in found["failed"]["odd_full_lm"]
    assert len(found["tasks"]) == 1


@pytest.mark.parametrize(
    ("bindings", "expected"),
    [
        ({"MIXTURE_OR_TASK_NAME": "planets_score_evil"}, "Did you mean 'planets_score_eval'"),
        ({"MIXTURE_OR_TASK_NAME": ()}, "nothing to evaluate"),
        ({"SPLIT": "valid"}, "has no split 'valid'"),
        ({"TASK_FEATURE_LENGTHS": {"inputs": 64}}, "TASK_FEATURE_LENGTHS = {'inputs': 64}"),
        ({"NUM_EXAMPLES": 0}, "NUM_EXAMPLES = 0"),
        ({"CHECKPOINT_PATH": "nowhere"}, "CHECKPOINT_PATH: nowhere does not exist"),
    ],
)
def test_a_mistake_is_one_message(bindings, expected, undisturbed, tmp_path, capfd):
    assert evaluate(undisturbed, tmp_path / "out", **bindings) == 2
    assert expected in message(capfd)
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_of_another_architecture(undisturbed: Path, tmp_path, capfd):
    arguments = runs.evaluation_arguments(undisturbed, tmp_path / "out")
    files = [
        f"--gin_file={runs.ROOT}/t5x_configs/{name}.gin"
        for name in ("models/tiny", "architectures/nd")
    ]
    model = "--gin.evaluate.evaluate.model=@architecture.NonCausalDecoder()"
    sizes = [f"--gin.VOCAB_SIZE={VOCAB_SIZE}", "--gin.DROPOUT_RATE=0.0"]
    assert cli.main([*arguments, *files, *sizes, model]) == 2
    told = message(capfd)
    assert "MODEL is NonCausalDecoder (ND), but the checkpoint" in told
    assert "is CausalDecoder (CD)" in told


def test_two_results_are_compared(results: Path, capsys):
    path = str(results / "results.json")
    assert cli.main(["evaluate", "--compare", path, path]) == 0
    assert "planets" in capsys.readouterr().out
    assert jax.process_count() == 1

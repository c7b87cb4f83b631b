"""Tasks of the harness run from files here, by our command and by the harness's own, offline."""

import ast
import json
import math
import multiprocessing
import re
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.evaluation.offline import FOLDER, ROOT

# isort: split
import lm_eval.tasks.manager
from lm_eval.tasks._yaml_loader import load_yaml

from archobj_jax.data.vocabularies import embedded_vocabulary
from archobj_jax.errors import UserError
from archobj_jax.evaluation import lm_eval as launcher
from archobj_jax.evaluation.examples import RankedExample, ScoredExample
from archobj_jax.evaluation.harness import HarnessLM
from archobj_jax.evaluation.harness_tasks import HarnessTasks
from archobj_jax.evaluation.results import Metric, TaskResult
from archobj_jax.evaluation.statistics import Bootstrap
from archobj_jax.inference.predictor import Predictor
from archobj_jax.inference.questions import Question, Total
from archobj_jax.inference.runner import Runner
from tests import tiny

BOOTSTRAP = Bootstrap(resamples=10)


@pytest.fixture(autouse=True)
def offline_at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise AssertionError(f"a connection was tried: {arguments[1:]}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def runner() -> Runner:
    network = tiny.network(vocab_size=4224, num_decoder_layers=1)
    model = tiny.SYMBOLS["CD"](network)
    predictor = Predictor(tiny.blueprint(model), tiny.parameters(model), embedded_vocabulary(), 0)
    return Runner(predictor, quiet=True)


class ByLength(Runner):
    """Prefers short choices, and the empty context least of all."""

    def score(self, name: str, questions: Sequence[Question]) -> list[list[Total]]:
        return [
            [Total(-float(c.size) - 10.0 * (not q.inputs.size), c.size == 1) for c in q.choices]
            for q in questions
        ]


def evaluated(
    names: str | Sequence[str], runner: Runner, **settings: Any
) -> tuple[dict[str, TaskResult], dict[str, str]]:
    settings = {"include_path": str(FOLDER), **settings}
    told: dict[str, str] = {}
    tasks = HarnessTasks(names, **settings)
    made, failed = tasks.evaluate(runner, BOOTSTRAP, tell=told.__setitem__)
    assert told == failed
    return {task.name: task for task in made}, failed


def variant(folder: Path, name: str, **changes: Any) -> None:
    """Writes a task like local_list_methods."""
    fields = {"include": str(FOLDER / "list_methods.yaml"), "task": name, **changes}
    (folder / f"{name}.yaml").write_text(json.dumps(fields))


def test_multiple_choice_is_ranked(runner: Runner):
    made, failed = evaluated("local_list_methods", runner)
    assert not failed
    task = made["local_list_methods"]
    assert (task.kind, task.group, task.split) == ("rank", "local_list_methods", "test")
    assert (task.chance, task.counts["examples"]) == (50.0, 3)
    records = [json.loads(line) for line in (FOLDER / "list_methods.jsonl").open()]
    lm = HarnessLM(runner)
    for record, example in zip(records, task.examples, strict=True):
        assert isinstance(example, RankedExample)
        context = f"Question: {record['question']}\nAnswer:"
        pairs = [lm.boundaries.pair(context, f" {choice}") for choice in record["choices"]]
        question = Question(pairs[0].inputs, tuple(pair.targets for pair in pairs))
        (scores,) = runner.predictor.score_questions([question])
        (alone,) = runner.predictor.score_questions(
            [Question(np.zeros(0, np.int32), question.choices)]
        )
        for choice, text, score, without in zip(
            example.choices, record["choices"], scores, alone, strict=True
        ):
            assert choice.log_likelihood == pytest.approx(score.total, abs=1e-4)
            assert choice.unconditional == pytest.approx(without.total, abs=1e-4)
            assert (choice.bytes, choice.tokens) == (len(text), score.log_likelihoods.size)
        assert example.gold == (record["label"],)
    assert {"accuracy", "accuracy_norm", "accuracy_unconditional", "acc_norm"} <= set(task.metrics)
    assert "acc" not in task.metrics


def test_metrics_of_all_documents_are_the_harness_s(runner: Runner, tmp_path: Path):
    variant(tmp_path, "with_f1", metric_list=[{"metric": "acc"}, {"metric": "f1"}])
    made, _ = evaluated("with_f1", ByLength(runner.predictor), include_path=str(tmp_path))
    (task,) = made.values()
    assert [example.predictions["accuracy"] for example in task.examples] == [0, 0, 1]
    assert [example.gold for example in task.examples] == [(0,), (1,), (0,)]
    assert task.metrics["accuracy"].value == pytest.approx(100 / 3)
    assert task.metrics["f1"] == Metric(value=0.0, interval=None, higher_is_better=True)


def test_one_of_several_answers_must_be_the_greedy_one(runner: Runner, tmp_path: Path):
    # As WebQuestions has it: no choice is taken, so that nothing is right by chance.
    variant(tmp_path, "greedy", metric_list=[{"metric": "exact_match"}], doc_to_target="{{[0, 1]}}")
    made, _ = evaluated("greedy", ByLength(runner.predictor), include_path=str(tmp_path))
    (task,) = made.values()
    assert (task.kind, task.chance) == ("metrics", 0.0)
    assert [example.metrics["accuracy"] for example in task.examples] == [100.0, 100.0, 0.0]


def test_rolling_log_likelihoods_are_a_loss(runner: Runner):
    made, failed = evaluated("local_sentences", runner)
    assert not failed
    task = made["local_sentences"]
    texts = [json.loads(line)["text"] for line in (FOLDER / "sentences.jsonl").open()]
    assert (task.kind, task.split) == ("loss", "validation")
    assert [example.bytes for example in task.examples] == [len(t.encode()) for t in texts]
    nats = sum(-score.total for score in runner.predictor.score([("", text) for text in texts]))
    bits = nats / math.log(2) / task.counts["bytes"]
    assert task.metrics["bits_per_byte"].value == pytest.approx(bits, rel=1e-5)
    assert task.metrics["loss"].value == pytest.approx(nats / task.counts["tokens"], rel=1e-5)
    assert task.metrics["byte_perplexity"].value == pytest.approx(2**bits, rel=1e-4)
    assert not task.metrics["word_perplexity"].higher_is_better


def test_generated_text_gets_the_metrics_of_the_task(runner: Runner):
    made, failed = evaluated("local_continuations", runner)
    assert not failed
    task = made["local_continuations"]
    assert (task.kind, task.chance) == ("metrics", 0.0)
    first, second = task.examples
    assert isinstance(first, ScoredExample)
    assert first.references == ("list",)
    assert isinstance(first.output, str)
    assert "." not in first.output
    assert first.metrics == {"exact_match": 0.0, "accuracy": 0.0}
    assert second.id == "1"


def test_a_greedy_continuation_is_accurate(runner: Runner):
    made, _ = evaluated("local_last_words", ByLength(runner.predictor))
    task = made["local_last_words"]
    assert [example.metrics["accuracy"] for example in task.examples] == [100.0, 0.0]
    assert (task.metrics["accuracy"].value, task.chance) == (50.0, 0.0)
    assert task.metrics["perplexity"].value == pytest.approx(math.exp((1 + 3) / 2))
    assert not task.metrics["perplexity"].higher_is_better


def test_a_cut_context_is_marked(runner: Runner):
    made, _ = evaluated("local_last_words", ByLength(runner.predictor), max_length=4)
    (task,) = made.values()
    assert [example.truncated for example in task.examples] == [False, True]
    assert task.counts["truncated"] == 1


def test_a_file_names_a_task_too_and_limits_hold(runner: Runner):
    path = str(FOLDER / "list_methods.yaml")
    made, failed = evaluated(path, runner, include_path=None, limit=2)
    assert not failed
    assert made["local_list_methods"].counts["examples"] == 2


def test_examples_before_a_document_are_as_many_as_asked(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
):
    sizes = []

    def score(self: Runner, name: str, questions: Sequence[Question]) -> list[list[Total]]:
        sizes.append(max(question.inputs.size for question in questions))
        return [[Total(-1.0, False) for _ in q.choices] for q in questions]

    monkeypatch.setattr(Runner, "score", score)
    for shots in (0, 2):
        evaluated("local_list_methods", runner, num_fewshot=shots)
    assert sizes[1] > 2 * sizes[0]


def test_a_task_that_fails_leaves_the_others(
    runner: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    variant(tmp_path, "good")
    variant(tmp_path, "no_file", dataset_kwargs={"data_files": {"test": "nowhere.jsonl"}})
    variant(tmp_path, "from_the_hub", dataset_path="nobody/nothing", dataset_kwargs={})
    variant(tmp_path, "no_such_field", doc_to_text="{{question if label == 0 else queston.text}}")
    variant(tmp_path, "no_answer", doc_to_target="{{label and 7}}")
    variant(tmp_path, "no_choice_text", doc_to_choice=["yes", "\u200b"])
    # What stands for the harness's own tasks, of which there are thousands.
    monkeypatch.setattr(lm_eval.tasks.manager, "__file__", str(FOLDER / "manager.py"))
    names = ["local_list_method", "no_file", "from_the_hub", "no_such_field", "no_answer",
             "no_choice_text", "there/is/none.yaml", "good"]  # fmt: skip
    made, failed = evaluated(names, runner, include_path=str(tmp_path))
    assert list(made) == ["good"]
    assert list(failed) == names[:-1]
    assert "no task 'local_list_method'. Did you mean 'local_list_methods' or" in failed[names[0]]
    for name in ("no_file", "from_the_hub"):
        assert failed[name].startswith(f"task '{name}' of the harness cannot be loaded: ")
        assert failed[name].endswith(
            "; where there is no network, give it local files (docs/harness.md)."
        )
    assert "nowhere.jsonl" in failed["no_file"]
    assert "'no_such_field' of the harness cannot be evaluated: Und" in failed["no_such_field"]
    assert "document 1: the right answer 7 is none of the 2 choices" in failed["no_answer"]
    assert "document 0: the continuation ' \\u200b' has no tokens" in failed["no_choice_text"]
    assert "there/is/none.yaml does not exist" in failed["there/is/none.yaml"]


def test_defects_of_ours_keep_their_traceback(runner: Runner, monkeypatch: pytest.MonkeyPatch):
    def broken(*arguments: Any) -> None:
        raise KeyError("ours")

    monkeypatch.setattr(HarnessLM, "_score", broken)
    with pytest.raises(KeyError, match="ours"):
        evaluated("local_list_methods", runner)


def test_the_folder_of_tasks_must_exist(runner: Runner):
    with pytest.raises(UserError, match="nowhere is no folder; expected one with YAML files"):
        evaluated("any", runner, include_path="nowhere")


def test_a_limit_is_positive():
    with pytest.raises(UserError, match="limit = 0 must be at least 1, or None"):
        HarnessTasks("local_list_methods", limit=0)


def test_without_the_harness_the_extra_is_named(runner: Runner, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(UserError, match=r"pip install 'archobj_jax\[eval\]'"):
        evaluated("local_list_methods", runner)
    with pytest.raises(UserError, match=r"pip install 'archobj_jax\[eval\]'"):
        launcher.register()


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    # The stock tasks, which it would list first, take a while.
    monkeypatch.setattr(lm_eval.tasks.manager, "__file__", str(FOLDER / "manager.py"))
    monkeypatch.setattr(sys, "argv", ["lm_eval", *arguments])
    monkeypatch.setattr(multiprocessing, "set_start_method", lambda *_, **__: None)
    return launcher.main()


def test_the_harness_s_own_command_runs_our_model(
    runner: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(Predictor, "from_checkpoint", lambda *_, **__: runner.predictor)
    tasks = ["local_list_methods", "local_sentences", "local_continuations"]
    assert command(
        monkeypatch, "--model", "archobj_jax", "--model_args", "checkpoint=run,max_length=64",
        "--tasks", ",".join(tasks), "--output_path", str(tmp_path), "--log_samples",
    ) == 0  # fmt: skip
    (file,) = tmp_path.rglob("results_*.json")
    found = json.loads(file.read_text())["results"]
    made, _ = evaluated(tasks, runner, max_length=64)
    assert found["local_list_methods"]["acc,none"] == pytest.approx(
        made["local_list_methods"].metrics["accuracy"].value / 100
    )
    assert found["local_sentences"]["bits_per_byte,none"] == pytest.approx(
        made["local_sentences"].metrics["bits_per_byte"].value, rel=1e-5
    )
    assert found["local_continuations"]["exact_match,none"] == 0.0


def test_mistakes_in_the_harness_s_command_are_one_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    status = command(
        monkeypatch, "--model", "archobj_jax", "--model_args", "chekpoint=runs/demo",
        "--tasks", "local_sentences",
    )  # fmt: skip
    assert status == 2
    assert capsys.readouterr().err.endswith(
        "lm_eval: error: --model_args chekpoint=runs/demo: there is no such argument. "
        "Did you mean 'checkpoint'?\n"
    )


def test_the_harness_has_all_tasks_of_eai_eval():
    suite = (ROOT / "t5x_configs/suites/eai_eval.gin").read_text()
    names = ast.literal_eval(suite.split("HARNESS_TASKS = ")[1].split("\n\n")[0])
    assert len(set(names)) == 31
    stock = Path(lm_eval.tasks.manager.__file__).parent
    named = re.compile(rf'^task: "?({"|".join(names)})"? *$', re.MULTILINE)
    found = {
        match[1]: path
        for path in stock.rglob("*.yaml")
        if (match := named.search(path.read_text(errors="replace")))
    }
    assert found.keys() == set(names)
    metrics = {
        name: {metric["metric"] for metric in load_yaml(path, resolve_func=False)["metric_list"]}
        for name, path in found.items()
    }
    # Each of them has an accuracy: `acc`, or `exact_match` in its place.
    assert {name for name in names if "acc" not in metrics[name]} == {"triviaqa", "webqs"}
    assert all(metrics[name] & {"acc", "exact_match"} for name in names)

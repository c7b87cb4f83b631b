import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from archobj_jax.errors import MachineError, UserError
from archobj_jax.evaluation import results
from archobj_jax.evaluation.aggregation import About, Aggregation, loss_task, scored_task
from archobj_jax.evaluation.examples import Document, ScoredExample
from archobj_jax.training.lineage import Stage
from tests.evaluation import outcomes

DOCUMENTATION = Path(__file__).parents[2] / "docs/evaluation_results.md"


def everything():
    """Results that have each kind of task, a data set and a suite."""
    documents = [Document(id=str(id), nats=10.0 / 3, tokens=2, bytes=7) for id in range(2)]
    written = [ScoredExample(id="0", metrics={"exact_match": 0.0}, output="é", references=("e",))]
    tasks = [
        outcomes.prompt("a1", [1, 0], group="a", dropped=1),
        outcomes.prompt("a2", [1, 1], group="a"),
        loss_task(About(name="c4", split="test"), documents, bootstrap=outcomes.BOOTSTRAP),
        scored_task(
            About(name="squad", split="test"),
            written,
            bootstrap=outcomes.BOOTSTRAP,
            higher_is_better={"exact_match": True},
        ),
    ]
    aggregation = Aggregation("median", "suite", {"a": ["a1", "a2"], "b": ["b1"]})
    return outcomes.results(tasks, aggregation=aggregation, failed={"b1": "no such file"})


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("results") / "new" / "results.json"
    everything().write(str(path))
    return path


def test_what_is_read_is_what_was_written(file):
    assert results.read(str(file)) == everything()


def test_the_same_results_are_the_same_bytes(file, tmp_path):
    everything().write(str(tmp_path / "again.json"))
    assert (tmp_path / "again.json").read_bytes() == file.read_bytes()
    assert [path.name for path in file.parent.iterdir()] == ["results.json"]


def test_an_example_is_a_line(file):
    lines = [line.strip() for line in file.read_text().splitlines() if '"log_likelihood"' in line]
    assert len(lines) == 4
    assert set(json.loads(lines[0].rstrip(","))) == {
        "id", "truncated", "choices", "gold", "weight", "inputs", "predictions"
    }  # fmt: skip


def documented():
    """Names of the fields in each table of the documentation, by its heading."""
    found = {}
    for section in re.split(r"^## ", DOCUMENTATION.read_text(), flags=re.MULTILINE)[1:]:
        table = re.search(r"^\| field .*?(?:\n\n|\Z)", section, flags=re.MULTILINE | re.DOTALL)
        if table is not None:
            rows = [row.split("|")[1] for row in table[0].strip().splitlines()[2:]]
            found[section.splitlines()[0]] = set(re.findall(r"`(\w+)`", "".join(rows)))
    return found


def test_a_file_has_just_the_documented_fields(file):
    content = json.loads(file.read_text())
    tasks, groups, suite = content["tasks"], content["groups"], content["suite"]
    ranked = tasks["a1"]["examples"] + tasks["a2"]["examples"]
    holders = [*tasks.values(), *groups.values(), suite]
    objects = {
        "The file: `.`": [content],
        "`.checkpoint`": [content["checkpoint"]],
        "`.checkpoint.lineage`": [content["checkpoint"]["lineage"]],
        "A task: `.tasks[]`": [*tasks.values()],
        "A metric: `.metrics[]` of a task, group or suite": [
            metric for holder in holders for metric in holder["metrics"].values()
        ],
        "An example of kind `rank`: `.tasks[].examples[]`": ranked,
        "A choice: `.tasks[].examples[].choices[]`": [c for e in ranked for c in e["choices"]],
        "An example of kind `metrics`: `.tasks[].examples[]`": tasks["squad"]["examples"],
        "A document, of kind `loss`: `.tasks[].examples[]`": tasks["c4"]["examples"],
        "A group: `.groups[]`": [*groups.values()],
        "The suite: `.suite`": [suite],
    }
    fields = documented()
    assert fields.keys() == objects.keys()
    for heading, made in objects.items():
        assert made, heading
        for each in made:
            assert set(each) == fields[heading], heading
    counts = re.search(r"^\| `counts` .*`bytes`", DOCUMENTATION.read_text(), flags=re.MULTILINE)
    assert set(tasks["c4"]["counts"]) == set(re.findall(r"`(\w+)`", counts[0])) - {"counts"}


def test_the_documentation_names_schema_stages_and_metrics():
    text = DOCUMENTATION.read_text()
    assert f"`{results.SCHEMA}`" in text
    stages = re.search(r"^\| `stages` .*", text, flags=re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", stages[0])) == {
        "stages", *(field.name for field in dataclasses.fields(Stage))
    }  # fmt: skip
    for task in everything().tasks.values():
        for metric in set(task.metrics) - {"exact_match"}:
            assert f"| `{metric}` |" in text


def changed(file, tmp_path, change):
    content = json.loads(file.read_text())
    change(content)
    path = tmp_path / "changed.json"
    path.write_text(json.dumps(content))
    return str(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(schema="archobj_jax.evaluation/0"),
         r"changed.json has the schema archobj_jax.evaluation/0; expected .*evaluation/1"),
        (lambda c: c.pop("schema"), r"changed.json has no schema; expected a results file"),
        (lambda c: c.pop("seed"), r"changed.json is no results file of .*: the file: lacks 'seed'"),
        (lambda c: c["tasks"]["a1"].pop("split"), r": \.tasks\.a1: lacks 'split'"),
        (lambda c: c["tasks"]["a1"]["examples"][1]["choices"][0].update(log_likelihood="-1"),
         r': \.tasks\.a1\.examples\[1\]\.choices\[0\]\.log_likelihood: expected a number'),
        (lambda c: c["tasks"]["a1"]["examples"][0].update(gold=[2]),
         r": \.tasks\.a1\.examples\[0\]: example 0: gold \(2,\) of 2 choices"),
        (lambda c: c["tasks"]["a1"]["examples"][0]["predictions"].update(accuracy=1),
         r"\.predictions: expected .* got "),
    ],
)  # fmt: skip
def test_a_file_that_was_changed_is_told_with_the_place(file, tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        results.read(changed(file, tmp_path, change))


def test_what_is_no_results_file_is_told(tmp_path):
    text = tmp_path / "text.json"
    text.write_text('{"a": ')
    with pytest.raises(UserError, match=r"text.json is not JSON \(.*line 1.*expected a results"):
        results.read(str(text))
    text.write_text('{"schema": NaN}')
    with pytest.raises(UserError, match=r"text.json is not JSON \(it holds NaN\)"):
        results.read(str(text))
    text.write_text("[1]")
    with pytest.raises(UserError, match=r"text.json has no schema"):
        results.read(str(text))
    text.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"text.json is not text; expected a results file"):
        results.read(str(text))
    with pytest.raises(UserError, match=r"none.json does not exist; expected a results file"):
        results.read(str(tmp_path / "none.json"))
    with pytest.raises(UserError, match=r"is no file; expected a results file"):
        results.read(str(tmp_path))


def test_a_number_that_is_not_finite_leaves_the_old_file(tmp_path):
    path = tmp_path / "results.json"
    path.write_text("old")
    with pytest.raises(UserError, match=r"^\.settings\.rate is or holds a number that is not"):
        dataclasses.replace(everything(), settings={"rate": float("nan")}).write(str(path))
    assert path.read_text() == "old"


def test_a_folder_is_no_place_for_a_file(tmp_path):
    with pytest.raises(UserError, match="is a folder, expected a file"):
        everything().write(str(tmp_path))


def test_a_storage_that_fails_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match=r"cannot be written .* these results are not kept"):
        everything().write(str(tmp_path / "file" / "results.json"))


def test_results_need_neither_jax_nor_tensorflow():
    code = """
import sys
from archobj_jax.evaluation import aggregation, compare, comparison, results, statistics, tables
heavy = {"jax", "tensorflow", "seqio"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

import dataclasses

from archobj_jax.evaluation.aggregation import About, Aggregation, loss_task, scored_task
from archobj_jax.evaluation.comparison import compare
from archobj_jax.evaluation.examples import Document, ScoredExample
from archobj_jax.evaluation.results import Metric
from archobj_jax.evaluation.tables import WIDTH, comparison_table, results_table
from tests.evaluation import outcomes
from tests.evaluation.outcomes import BOOTSTRAP, prompt


def lines_with(text, words):
    return [" ".join(line.split()) for line in text.splitlines() if words in line]


def suite(**groups):
    """Results of a suite of prompts, by data set."""
    tasks = [
        prompt(f"{group}_{n}", rights, group=group)
        for group, prompts in groups.items()
        for n, rights in enumerate(prompts)
    ]
    names = {group: [t.name for t in tasks if t.group == group] for group in groups}
    return outcomes.results(tasks, aggregation=Aggregation("median", "ours", names))


def test_a_line_is_a_data_set_and_the_last_their_mean():
    results = suite(copa=[[1, 0] * 50, [1, 1, 1, 0] * 25, [1] * 100], rte=[[0, 0, 0, 1] * 25])
    text = results_table(results)
    low, high = results.groups["copa"].metrics["accuracy"].interval
    (line,) = lines_with(text, "copa")
    figure = f"75.0 ±{(high - low) / 2:.1f}"
    assert line == f"copa {figure} {figure} {figure} 50.0 3 100"
    (mean,) = lines_with(text, "ours: mean of 2")
    assert mean.startswith("ours: mean of 2 50.0 ±")
    assert text.startswith("runs/nowhere/checkpoints/checkpoint_7, step 7\nND:MLM (1K)\n")
    assert "The figure of a data set is the median over its prompts." in text
    assert "cut" not in text
    assert "dropped" not in text
    assert "failed" not in text


def test_what_was_cut_or_dropped_has_a_column():
    task = prompt("x", [1, 0], dropped=3)
    counted = dataclasses.replace(task, counts={"examples": 2, "truncated": 1, "dropped": 3})
    text = results_table(outcomes.results([counted]))
    (header,) = lines_with(text, "cut")
    assert header.endswith("chance examples cut dropped")
    (line,) = lines_with(text, "x ")
    assert line.endswith("50.0 2 1 3")


def test_other_metrics_have_a_line_each():
    documents = [Document(id=str(i), nats=8.0 + i % 2, tokens=4, bytes=9) for i in range(10)]
    written = [ScoredExample(id=str(i), metrics={"exact_match": i % 2}) for i in range(10)]
    tasks = [
        loss_task(About(name="c4", split="test"), documents, bootstrap=BOOTSTRAP),
        scored_task(
            About(name="squad", split="test"),
            written,
            bootstrap=BOOTSTRAP,
            higher_is_better={"exact_match": True},
            whole={"f1": Metric(value=0.25, interval=None, higher_is_better=True)},
        ),
    ]
    text = results_table(outcomes.results(tasks))
    low, high = tasks[0].metrics["loss"].interval
    (loss,) = lines_with(text, " loss ")
    assert loss == f"c4 loss 2.125 ±{(high - low) / 2:.2g} 10"
    (bits,) = lines_with(text, "bits_per_byte")
    assert bits.startswith("c4 bits_per_byte 1.363 ±")
    assert lines_with(text, "f1") == ["squad f1 0.25 10"]


def test_what_is_missing_or_failed_cannot_be_overlooked():
    tasks = [prompt("a1", [1, 0], group="a")]
    aggregation = Aggregation("median", "ours", {"a": ["a1", "a2"], "b": ["b1"], "c": ["c1"]})
    failed = {"b1": "there is no such file", "a2": "its examples are too long"}
    text = results_table(outcomes.results(tasks, aggregation=aggregation, failed=failed))
    assert "ours is NOT COMPLETE: 1 of 3 data sets; it lacks b, c." in text
    assert "a lacks a2." in text
    assert text.endswith("failed: a2: its examples are too long\nfailed: b1: there is no such file")


def long_results(rights):
    name = "a_data_set_with_a_name_of_some_length/and_a_subset_with_another/of_them"
    task = prompt(name + "_as_a_task_of_its_own" * 3, rights, dropped=12345)
    grouped = [prompt(f"{name}_{n}", rights, group=name, dropped=123) for n in range(2)]
    tasks = [task, *grouped]
    return outcomes.results(
        tasks,
        aggregation=Aggregation("median", "suite", {name: [t.name for t in grouped]}),
        failed={name: "a message of many words " * 20},
        settings={"batch": sum(rights)},
    )


def test_no_line_is_wider_than_the_terminal():
    a, b = long_results([1, 0] * 100), long_results([1, 1, 0] * 70)
    for text in (results_table(a), comparison_table(compare(a, b, names=("a" * 60, "b" * 60)))):
        assert max(map(len, text.splitlines())) <= WIDTH
    assert "a_data_set_with" in results_table(a)
    assert "…" in results_table(a)


def test_a_comparison_has_a_block_for_each_metric_and_says_what_is_noise():
    a = suite(copa=[[1, 0] * 50], rte=[[1, 0] * 50])
    b = suite(copa=[[1] * 100], rte=[[1, 0] * 49 + [1, 1]])
    text = comparison_table(compare(a, b, names=("a.json", "b.json")))
    assert text.startswith("A: a.json\nB: b.json\n")
    blocks = [line.split()[0] for line in text.splitlines() if "95% interval " in line]
    assert blocks == ["accuracy", "accuracy_norm", "accuracy_unconditional"]
    copa, rte, mean = (lines_with(text, words)[0] for words in ("copa", "rte", "ours: mean"))
    assert copa.startswith("copa 50.0 100.0 +50.0 [+")
    assert copa.endswith("100 B better")
    assert rte.startswith("rte 50.0 51.0 +1.0 [+0.0, +")
    assert rte.endswith("100 within noise")
    assert mean.endswith("200 B better")
    assert "200 examples of tasks are in both; 0 only in A, 0 only in B." in text


def test_a_comparison_says_what_only_one_file_has():
    a = outcomes.results([prompt("x", [1, 0]), prompt("y", [1])], settings={"batch": 1})
    b = outcomes.results([prompt("x", [1, 0, 1])], settings={"batch": 2})
    text = comparison_table(compare(a, b))
    assert "2 examples of tasks are in both; 0 only in A, 1 only in B." in text
    assert "only in A: y" in text
    assert "only in B: " not in text
    assert "settings: batch is 1 in A, 2 in B" in text

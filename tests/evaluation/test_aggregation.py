import dataclasses
import random

import pytest

from archobj_jax.errors import UserError
from archobj_jax.evaluation.aggregation import (
    About,
    Aggregation,
    aggregate,
    loss_task,
    ranked_task,
    scored_task,
)
from archobj_jax.evaluation.examples import Document, RankedExample, ScoredExample
from archobj_jax.evaluation.results import Metric
from archobj_jax.prompts.ranking import rank_classification
from tests.evaluation.outcomes import BOOTSTRAP, answered, choice, prompt

ABOUT = About(name="task", split="validation")


def summed(tasks, aggregation=Aggregation()):
    return aggregate({task.name: task for task in tasks}, aggregation, bootstrap=BOOTSTRAP)


def test_accuracy_and_chance_are_those_of_rank_classification():
    random.seed(0)
    examples, targets, scores = [], [], []
    for id in range(30):
        count = random.randint(2, 4)
        gold = random.randrange(count)
        values = [random.uniform(-9, -1) for _ in range(count)]
        choices = tuple(map(choice, values))
        examples.append(RankedExample(id=str(id), choices=choices, gold=(gold,)))
        targets += [((id, index), index == gold, 1.0, 1) for index in range(count)]
        scores += values
    expected = rank_classification(targets, scores)
    found = ranked_task(ABOUT, examples, bootstrap=BOOTSTRAP)
    assert found.metrics["accuracy"].value == pytest.approx(expected["accuracy"])
    assert found.chance == pytest.approx(expected["chance"])
    assert found.kind == "rank"


def test_what_was_truncated_and_dropped_is_counted():
    examples = [answered(id, True, truncated=id < 3) for id in range(5)]
    about = dataclasses.replace(ABOUT, dropped=7)
    found = ranked_task(about, examples, bootstrap=BOOTSTRAP)
    assert found.counts == {"examples": 5, "truncated": 3, "dropped": 7}


def test_weights_count_in_accuracy_and_chance():
    two = RankedExample(id="0", choices=(choice(-1.0),) * 2, gold=(0,))
    four = RankedExample(id="1", choices=(choice(-1.0),) * 4, gold=(3,), weight=3.0)
    found = ranked_task(ABOUT, [two, four], bootstrap=BOOTSTRAP)
    assert found.metrics["accuracy"].value == 25
    assert found.chance == pytest.approx(100 * (1 * 1 / 2 + 3 * 1 / 4) / 4)


def test_a_corpus_has_its_loss_by_token_and_by_byte():
    documents = [Document(id=str(id), nats=4.0 + id, tokens=2, bytes=10) for id in range(3)]
    found = loss_task(ABOUT, documents, bootstrap=BOOTSTRAP)
    assert found.metrics["loss"].value == pytest.approx(15 / 6)
    assert found.metrics["bits_per_byte"].value == pytest.approx(15 / 30 / 0.693147, rel=1e-6)
    assert not found.metrics["loss"].higher_is_better
    low, high = found.metrics["loss"].interval
    assert 2 <= low < 2.5 < high <= 3
    assert found.counts == {
        "examples": 3, "truncated": 0, "dropped": 0, "tokens": 6, "bytes": 30
    }  # fmt: skip


def test_metrics_of_the_whole_stand_beside_means_over_examples():
    examples = [ScoredExample(id=str(id), metrics={"errors": float(id)}) for id in range(3)]
    f1 = Metric(value=0.5, interval=None, higher_is_better=True)
    better = {"errors": False}
    found = scored_task(
        ABOUT, examples, bootstrap=BOOTSTRAP, higher_is_better=better, whole={"f1": f1}, chance=10.0
    )
    assert found.metrics["errors"].value == 1
    assert not found.metrics["errors"].higher_is_better
    assert found.metrics["f1"] == f1
    assert found.chance == 10


def test_one_example_has_no_interval():
    assert prompt("x", [True]).metrics["accuracy"].interval is None
    assert prompt("x", [True, False]).metrics["accuracy"].interval == (0, 100)


def test_a_task_without_examples_is_an_error():
    about = dataclasses.replace(ABOUT, dropped=4)
    with pytest.raises(UserError, match=r"task has no examples in its split 'validation' \(4 were"):
        ranked_task(about, [], bootstrap=BOOTSTRAP)


def test_a_task_without_weight_is_an_error():
    with pytest.raises(UserError, match="task has no accuracy: all of its examples have weight 0"):
        ranked_task(ABOUT, [answered(0, True, weight=0.0)], bootstrap=BOOTSTRAP)


def test_a_data_set_is_the_median_over_its_prompts_and_a_suite_the_mean_over_data_sets():
    """25, 50 and 100% right, and 75%: medians 50 and 75, mean 62.5."""
    tasks = [
        prompt("a1", [1, 0, 0, 0], group="a", dropped=1),
        prompt("a2", [1, 1, 0, 0], group="a", dropped=2),
        prompt("a3", [1, 1, 1, 1], group="a"),
        prompt("b1", [1, 1, 1, 0], group="b"),
        prompt("alone", [0, 0]),
    ]
    groups, suite = summed(
        tasks, Aggregation("median", "s", {"a": ["a1", "a2", "a3"], "b": ["b1"]})
    )
    assert set(groups) == {"a", "b"}
    assert groups["a"].metrics["accuracy"].value == 50
    assert groups["a"].tasks == ("a1", "a2", "a3")
    assert groups["a"].counts == {"examples": 4, "truncated": 0, "dropped": 3}
    assert suite.metrics["accuracy"].value == 62.5
    assert (suite.groups, suite.missing, suite.chance) == (("a", "b"), (), 50)
    mean, _ = summed(tasks, Aggregation("mean"))
    assert mean["a"].metrics["accuracy"].value == pytest.approx(175 / 3)


def test_the_interval_of_a_data_set_is_wider_where_prompts_differ():
    alike = [prompt(f"x{n}", [i % 2 for i in range(300)], group="alike") for n in range(5)]
    apart = [
        prompt(f"y{n}", [i < 30 + 60 * n for i in range(300)], group="apart") for n in range(5)
    ]
    groups, _ = summed([*alike, *apart])
    widths = {}
    for result in (alike[0], *groups.values()):
        low, high = result.metrics["accuracy"].interval
        widths[result.name] = high - low
    # Prompts with the same answers add nothing to one of them.
    assert widths["alike"] == pytest.approx(widths["x0"], abs=2)
    # With accuracies from 10% to 90%, it is the choice of prompts that counts.
    assert widths["apart"] > 3 * widths["alike"]


def test_the_mean_of_a_suite_has_a_narrower_interval_than_its_data_sets():
    """Of n data sets alike, by sqrt(n)."""
    tasks = [prompt(f"t{n}", [i % 2 for i in range(200)], group=f"g{n}") for n in range(9)]
    _, suite = summed(tasks, Aggregation("median", "s", {t.group: [t.name] for t in tasks}))
    low, high = suite.metrics["accuracy"].interval
    low_of_one, high_of_one = tasks[0].metrics["accuracy"].interval
    assert (high_of_one - low_of_one) / (high - low) == pytest.approx(3, abs=0.6)


def test_what_is_missing_is_told():
    tasks = [prompt("a1", [1, 0], group="a")]
    groups, suite = summed(tasks, Aggregation("median", "s", {"a": ["a1", "a2"], "b": ["b1"]}))
    assert groups["a"].missing == ("a2",)
    assert (suite.groups, suite.missing) == (("a",), ("b",))
    _, nothing = summed([], Aggregation("median", "s", {"a": ["a1"]}))
    assert (nothing.metrics, nothing.missing, nothing.chance) == ({}, ("a",), None)


def test_a_suite_has_the_metrics_that_all_data_sets_have():
    scored = [ScoredExample(id=str(i), metrics={"accuracy": 100.0, "f": 1.0}) for i in range(2)]
    other = scored_task(
        About(name="b1", split="test", group="b"),
        scored,
        bootstrap=BOOTSTRAP,
        higher_is_better={"accuracy": True, "f": True},
    )
    tasks = [prompt("a1", [1, 0], group="a"), other]
    groups, suite = summed(tasks, Aggregation("median", "s", {"a": ["a1"], "b": ["b1"]}))
    assert {name: metric.value for name, metric in suite.metrics.items()} == {"accuracy": 75}
    assert (groups["b"].chance, suite.chance) == (None, None)


def test_the_order_of_the_tasks_does_not_matter():
    tasks = [prompt(f"t{n}", [n % 2, 1, 0, n % 3], group=f"g{n % 2}") for n in range(6)]
    aggregation = Aggregation("median", "s", {"g1": [], "g0": []})
    assert summed(tasks, aggregation) == summed(tasks[::-1], aggregation)

import dataclasses
import json

import numpy as np
import pytest

from archobj_jax.errors import UserError
from archobj_jax.evaluation.aggregation import (
    About,
    Aggregation,
    loss_task,
    ranked_task,
    scored_task,
)
from archobj_jax.evaluation.comparison import compare
from archobj_jax.evaluation.examples import Document, ScoredExample
from archobj_jax.evaluation.results import Metric
from archobj_jax.evaluation.statistics import Bootstrap
from tests.evaluation import outcomes
from tests.evaluation.outcomes import BOOTSTRAP, answered, prompt

SUITE = Aggregation("median", "s", {"a": ["a1", "a2"], "b": ["b1"]})


def of_tasks(*tasks, **changes):
    return outcomes.results(tasks, **changes)


def by_metric(comparison, level="task", name="x"):
    return {
        found.metric: found
        for found in comparison.differences
        if (found.level, found.name) == (level, name)
    }


def test_a_paired_difference_has_the_interval_of_the_examples_that_changed():
    """Of 1,000, 60 become right and 20 wrong: +4 ± 1.96 sqrt((0.08 - 0.04^2) / 1000) x 100.

    Not paired, with accuracies of 50 and 54, the interval would be ± 4.4.
    """
    before = np.arange(1000) < 500
    after = (before & (np.arange(1000) >= 20)) | (np.arange(1000) >= 940)
    many = Bootstrap(seed=1, resamples=4000)
    a, b = (of_tasks(prompt("x", rights), bootstrap=many) for rights in (before, after))
    found = by_metric(compare(a, b))["accuracy"]
    half = 196 * np.sqrt((0.08 - 0.04**2) / 1000)
    assert (found.a, found.b, found.difference, found.examples) == (50, 54, 4, 1000)
    assert found.interval == pytest.approx((4 - half, 4 + half), abs=0.15)
    assert found.verdict == "B better"


def test_a_difference_is_told_from_both_sides():
    a, b = (of_tasks(prompt("x", [i % n == 0 for i in range(100)])) for n in (2, 5))
    assert by_metric(compare(a, b))["accuracy"].verdict == "A better"
    assert by_metric(compare(b, a))["accuracy"].verdict == "B better"


def test_an_interval_that_contains_0_is_within_noise():
    """18 become right and 14 wrong of 100."""
    before = [i < 50 for i in range(100)]
    after = [14 <= i < 68 for i in range(100)]
    found = by_metric(compare(of_tasks(prompt("x", before)), of_tasks(prompt("x", after))))
    assert found["accuracy"].difference == 4
    low, high = found["accuracy"].interval
    assert low < 0 < high
    assert found["accuracy"].verdict == "within noise"


def test_a_checkpoint_does_not_differ_from_itself():
    results = of_tasks(prompt("x", [i % 3 == 0 for i in range(30)]))
    found = by_metric(compare(results, results))["accuracy"]
    assert (found.difference, found.interval, found.verdict) == (0, (0, 0), "within noise")


@pytest.mark.parametrize(("examples", "verdict"), [(5, "too few examples"), (6, "B better")])
def test_with_fewer_than_six_examples_nothing_is_claimed(examples, verdict):
    a, b = (of_tasks(prompt("x", [right] * examples)) for right in (False, True))
    assert by_metric(compare(a, b))["accuracy"].verdict == verdict


def test_of_one_example_there_is_no_interval():
    a, b = (of_tasks(prompt("x", [right])) for right in (False, True))
    found = by_metric(compare(a, b))["accuracy"]
    assert (found.difference, found.interval, found.verdict) == (100, None, "too few examples")


def test_a_lower_loss_is_better():
    def corpus(nats):
        documents = [Document(id=str(i), nats=nats + i % 3, tokens=4, bytes=9) for i in range(20)]
        return loss_task(About(name="x", split="test"), documents, bootstrap=BOOTSTRAP)

    found = by_metric(compare(of_tasks(corpus(9.0)), of_tasks(corpus(8.0))))
    assert found["loss"].difference == pytest.approx(-1 / 4)
    assert found["loss"].interval == pytest.approx((-1 / 4, -1 / 4))
    assert found["loss"].verdict == found["bits_per_byte"].verdict == "B better"


def test_losses_of_different_tokenizers_compare_by_bytes_alone():
    def corpus(tokens):
        documents = [Document(id=str(i), nats=9.0, tokens=tokens, bytes=9) for i in range(9)]
        return of_tasks(loss_task(About(name="x", split="test"), documents, bootstrap=BOOTSTRAP))

    found = compare(corpus(4), corpus(5))
    assert set(by_metric(found)) == {"bits_per_byte"}
    assert found.notes == ("x: loss is left out; A and B count tokens differently",)


def test_data_sets_and_suite_are_compared_over_what_both_have():
    """A lacks the prompt a2, B the example 3: of a1 3 of 3 against 1 of 3 remain."""
    a = of_tasks(
        prompt("a1", [1, 1, 1, 0], group="a"),
        prompt("b1", [0] * 8, group="b"),
        aggregation=SUITE,
    )
    b = of_tasks(
        prompt("a1", [1, 0, 0], group="a", ids=[2, 0, 1]),
        prompt("a2", [1, 1, 1], group="a"),
        prompt("b1", [1] * 8, group="b"),
        aggregation=SUITE,
    )
    found = compare(a, b, names=("a.json", "b.json"))
    group = by_metric(found, "group", "a")["accuracy"]
    assert (group.a, group.difference, group.examples) == (100, pytest.approx(-200 / 3), 3)
    suite = by_metric(found, "suite", "s")["accuracy"]
    assert (suite.a, suite.examples) == (50, 11)
    assert suite.difference == pytest.approx((100 - 200 / 3) / 2)
    assert (found.matched, found.unmatched) == (11, {"a": 1, "b": 0})
    assert found.only == {"a": (), "b": ("a2",)}
    assert found.notes == ("a: A lacks a2",)
    assert (found.a, found.b) == ("a.json", "b.json")


def test_the_median_over_prompts_is_taken_in_each():
    """Medians 50 and 75, though the middle prompt is another one."""
    rights = {"p1": (1, 3), "p2": (2, 4), "p3": (4, 1)}
    a, b = (
        of_tasks(*(
            prompt(name, [i < counts[side] for i in range(4)], group="a")
            for name, counts in rights.items()
        ))
        for side in (0, 1)
    )  # fmt: skip
    found = by_metric(compare(a, b), "group", "a")["accuracy"]
    assert (found.a, found.b, found.difference) == (50, 75, 25)


def test_prompts_are_drawn_alike_for_both():
    """Every prompt gains 10 points, however far apart they are: the interval is narrow."""

    def side(more):
        return of_tasks(*(
            prompt(f"p{n}", [i < 300 * n + more for i in range(1500)], group="a")
            for n in range(5)
        ))  # fmt: skip

    found = by_metric(compare(side(0), side(150)), "group", "a")["accuracy"]
    low, high = found.interval
    assert 8 < low < 10 < high < 12


def test_data_that_differ_are_an_error():
    def side(gold, **changes):
        about = About(name="x", split="validation")
        examples = [answered(12, True, gold=gold, **changes)]
        return of_tasks(ranked_task(about, examples, bootstrap=BOOTSTRAP))

    message = r"task x, example 12: gold \(0,\) in a.json, \(1,\) in b.json. The data differ"
    with pytest.raises(UserError, match=message):
        compare(side(0), side(1), names=("a.json", "b.json"))


@pytest.mark.parametrize("change", [{"split": "test"}, {"group": "g"}, {"kind": "loss"}])
def test_tasks_that_differ_are_an_error(change):
    task = prompt("x", [1, 0])
    (what,) = change
    with pytest.raises(UserError, match=f"the task x has the {what} .* in A, .* in B"):
        compare(of_tasks(task), of_tasks(dataclasses.replace(task, **change)))


def test_data_sets_put_together_differently_are_an_error():
    tasks = [prompt("a1", [1, 0], group="a")]
    a, b = (of_tasks(*tasks, aggregation=Aggregation(how)) for how in ("median", "mean"))
    with pytest.raises(UserError, match="the data set a is the median over prompts in A, the mean"):
        compare(a, b)


def test_files_without_a_task_in_common_are_an_error():
    a, b = (of_tasks(prompt(name, [1, 0])) for name in ("x", "y"))
    with pytest.raises(UserError, match="A and B have no task in common; the one has x, the oth"):
        compare(a, b)


def test_tasks_without_an_example_in_common_are_noted():
    a, b = (of_tasks(prompt("x", [1, 0], ids=ids)) for ids in ([1, 2], [3, 4]))
    found = compare(a, b)
    assert (found.differences, found.matched, found.unmatched) == ((), 0, {"a": 2, "b": 2})
    assert found.notes == ("x: no example is in both",)


def whole(value, ids):
    metric = Metric(value=value, interval=None, higher_is_better=True)
    return of_tasks(scored_task(
        About(name="x", split="test"),
        [ScoredExample(id=str(id), metrics={}) for id in ids],
        bootstrap=BOOTSTRAP, higher_is_better={}, whole={"f1": metric},
    ))  # fmt: skip


def test_a_metric_of_the_whole_has_no_interval():
    found = by_metric(compare(whole(0.5, range(9)), whole(0.75, range(9))))["f1"]
    assert (found.difference, found.interval, found.verdict) == (0.25, None, "no interval")


def test_a_metric_of_the_whole_is_left_out_unless_all_examples_are_in_both():
    found = compare(whole(0.5, range(9)), whole(0.75, range(8)))
    assert not found.differences
    assert found.notes == (
        "x: f1 is left out; it cannot be computed from the examples that are in both",
    )


def test_suites_of_other_names_are_not_compared():
    tasks = [prompt("a1", [1, 0], group="a")]
    a, b = (of_tasks(*tasks, aggregation=Aggregation("median", s, {"a": ["a1"]})) for s in "st")
    found = compare(a, b)
    assert {difference.level for difference in found.differences} == {"group"}
    assert found.notes == ("no mean over data sets, since A and B have no suite in common",)


def test_settings_and_versions_that_differ_are_noted():
    task = prompt("x", [1, 0])
    a = of_tasks(task, settings={"config": "A = 1\nB = 2\n", "batch": 8}, versions={"jax": "1"})
    b = of_tasks(task, settings={"config": "A = 1\nB = 3\n"}, versions={"jax": "2"})
    assert compare(a, b).notes == (
        "settings: batch is 8 in A, null in B",
        "settings: config: only in A: B = 2",
        "settings: config: only in B: B = 3",
        'versions: jax is "1" in A, "2" in B',
    )


def test_long_changes_are_cut():
    task = prompt("x", [1, 0])
    text = "\n".join(f"line {n}" for n in range(20))
    notes = compare(
        of_tasks(task, settings={"t": "\n"}), of_tasks(task, settings={"t": text})
    ).notes
    assert notes[-1] == "settings: t: only in B: 12 lines more"


def test_a_comparison_is_the_same_twice_and_has_json():
    a, b = (of_tasks(prompt("x", [i % n == 0 for i in range(40)])) for n in (2, 3))
    first, second = compare(a, b).json(), compare(a, b).json()
    assert first == second
    content = json.loads(first)
    assert content["differences"][0]["verdict"] == "within noise"
    assert content["matched"] == 40

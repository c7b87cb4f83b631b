import pytest

from archobj_jax.prompts.ranking import accuracy, postprocess, rank_classification


def accuracy_of(targets, scores):
    return rank_classification(targets, scores)["accuracy"]


def test_the_highest_score_is_the_answer():
    targets = [((0, 0), True, 1.0, 2), ((0, 1), False, 1.0, 1), ((1, 0), True, 1.0, 1)]
    targets += [((1, 1), False, 1.0, 9), ((1, 2), False, 1.0, 1)]
    assert accuracy_of(targets, [-1.0, -2.0, -5.0, -4.0, -6.0]) == 50
    assert accuracy_of(targets, [-1.0, -2.0, -3.0, -4.0, -6.0]) == 100


def test_order_of_the_targets_does_not_matter():
    targets = [((1, 1), True, 1.0, 1), ((0, 1), False, 1.0, 1)]
    targets += [((0, 0), True, 1.0, 1), ((1, 0), False, 1.0, 1)]
    assert accuracy_of(targets, [-1.0, -2.0, -1.0, -2.0]) == 100


def test_of_equal_scores_the_first_choice_is_taken():
    targets = [((0, 1), True, 1.0, 1), ((0, 0), False, 1.0, 1)]
    assert accuracy_of(targets, [-1.0, -1.0]) == 0


def test_weights_count():
    targets = [((0, 0), True, 3.0, 1), ((1, 0), False, 1.0, 1)]
    assert accuracy_of(targets, [0.0, 0.0]) == 75


def test_the_number_of_examples_and_chance_are_told():
    """Two choices of which one is right, and four of which two are: chance is 1/2 of each."""
    targets = [((0, 0), True, 1.0, 1), ((0, 1), False, 1.0, 1)]
    targets += [((1, choice), choice < 2, 1.0, 1) for choice in range(4)]
    found = rank_classification(targets, [0.0] * 6)
    assert found == {"accuracy": 100, "examples": 2, "chance": 50}
    thirds = [((0, choice), choice == 2, 1.0, 1) for choice in range(3)]
    found = rank_classification(thirds, [0.0] * 3)
    assert found == {"accuracy": 0, "examples": 1, "chance": pytest.approx(100 / 3)}


def test_sizes_must_agree():
    with pytest.raises(ValueError, match="as many targets as scores"):
        rank_classification([], [])


def test_the_postprocessor_makes_the_metric_s_targets():
    example = {"idx": [3, 1], "is_correct": True, "weight": 1.0, "targets": [5, 6, 1]}
    assert postprocess(-1.5, example, is_target=True) == ((3, 1), True, 1.0, 3)
    assert postprocess(-1.5, example) == -1.5


def test_accuracy_is_to_the_letter():
    assert accuracy(["a", "b"], ["a", "B"]) == {"accuracy": 50}

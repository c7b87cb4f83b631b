"""How many fewer tokens an adaptation took, of curves that are known."""

import numpy as np
import pytest

from archobj_jax.study.report import answer, score_tables, speed_ups, stage_tables
from tests.study.synthetic import evidence


def test_the_speed_up_is_that_of_the_curves(tmp_path):
    """From scratch 8 - 0.1 a step ends at 5 after 30; adapted 4 - 0.2 a step is there at once."""
    (found,) = speed_ups.speed_ups(evidence(tmp_path))
    assert found.reached == {0: (3000.0, 100.0)}
    assert found.ratio == pytest.approx(30)
    assert found.interval is None


def test_noise_of_the_losses_makes_no_speed_up_of_a_run_beside_another_like_it():
    """Geometric mean over pairs of runs that differ by noise alone, where both reach the loss."""
    rng = np.random.default_rng(0)
    ratios = []
    for _ in range(300):
        theirs, ours = (
            [(n, 3 + 2 * np.exp(-n / 10) + rng.normal(0, 0.02)) for n in range(1, 31)]
            for _ in range(2)
        )
        loss = theirs[-1][1]
        needed = speed_ups.tokens_to_reach(ours, loss)
        if needed is not None:
            ratios.append(speed_ups.tokens_to_reach(theirs, loss) / needed)
    assert len(ratios) > 100
    assert np.exp(np.mean(np.log(ratios))) == pytest.approx(1.0, abs=0.1)


def test_an_adaptation_stands_beside_what_had_as_many_tokens_as_it_began_with(tmp_path):
    chains = (
        "ND:MLM 15 steps → ND:MLM 15 steps → ND:MLM 10 steps",
        "CD:FLM 30 steps → ND:MLM 10 steps",
    )
    (found,) = speed_ups.speed_ups(evidence(tmp_path, chains=chains))
    assert found.scratch.name == "ND:MLM (3K)"


def test_the_speed_up_of_an_adaptation_in_two_legs_is_over_both(tmp_path):
    chains = ("ND:MLM 50 steps", "CD:FLM 30 steps → ND:MLM 4 steps → ND:MLM 10 steps")
    made = evidence(tmp_path, chains=chains)
    _, found = speed_ups.speed_ups(made)
    assert found.adapted.any.total_steps == 44
    # From scratch 8 - 5 = 3; the legs are at 3.2 after 400 tokens, and at 3.0 after 400 + 500.
    assert found.reached == {0: (5000.0, pytest.approx(900.0))}


@pytest.mark.parametrize("pairs", ["ND:MLM", "CD:FLM → ND:MLM"])
def test_without_the_loss_after_the_last_step_no_earlier_one_is_taken(tmp_path, pairs):
    made = evidence(tmp_path, seeds=(0, 1))
    stage = next(each for each in made.graph if (each.pairs, each.seed) == (pairs, 1))
    assert made.last_loss(stage) == pytest.approx(5.0 if pairs == "ND:MLM" else 2.0)
    made.store.finish(stage)
    path = made.store.path(stage, "metrics.jsonl")
    path.write_text("\n".join(path.read_text().splitlines()[:-1]))
    assert made.curve(stage)
    assert made.last_loss(stage) is None
    (found,) = speed_ups.speed_ups(made)
    assert set(found.reached) == {0}
    assert (found.ratio, found.interval) == (None, None)
    name = made.name(stage)
    assert (
        f"{name}, seed 1, has no held-out loss after its last step"
        in answer.answer(made, [], [], [found])[-1]
    )
    column = {"ND:MLM": 3, "CD:FLM → ND:MLM": 4}[pairs]
    assert score_tables.speed_ups([found]).rows[1][column] == "no last loss"
    row = next(row for row in stage_tables.stages(made).rows if stage.fingerprint[:10] in row)
    assert row[11] == ""


def test_where_nothing_was_held_out_it_is_told_and_no_curve_is_drawn(tmp_path):
    from archobj_jax.study.report import sections

    made = evidence(tmp_path)
    for stage in made.graph:
        if stage.evaluation is None:
            path = made.store.path(stage, "metrics.jsonl")
            lines = path.read_text().splitlines()
            path.write_text("\n".join(line for line in lines if "eval/" not in line))
            made.store.finish(stage)
    found = list(speed_ups.speed_ups(made))
    section = sections._adaptation(made, found, [])
    assert section.figures == []
    assert "has no held-out loss" in answer.answer(made, [], [], found)[-1]


def test_the_tokens_to_reach_a_loss_lie_on_a_straight_line():
    curve = [(0.0, 5.0), (10.0, 3.0), (20.0, 3.5), (30.0, 1.0)]
    assert speed_ups.tokens_to_reach(curve, 4.0) == 5.0
    assert speed_ups.tokens_to_reach(curve, 2.0) == pytest.approx(26.0)
    assert speed_ups.tokens_to_reach(curve, 6.0) == 0.0
    assert speed_ups.tokens_to_reach(curve, 0.5) is None


def test_the_curve_from_scratch_goes_on_over_the_stages_of_one_pretraining(tmp_path):
    made = evidence(tmp_path, chains=("CD:FLM 30 steps → CD:FLM 10 steps",))
    last = next(stage for stage in made.graph if stage.total_steps == 40)
    tokens = [point[0] for point in made.curve_of_pair(last)]
    assert tokens == [100.0 * step for step in range(1, 41)]

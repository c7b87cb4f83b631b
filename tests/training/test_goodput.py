"""Goodput: where a run's time went, over all its lives."""

import time

import pytest

from archobj_jax.training import goodput
from archobj_jax.training.goodput import Goodput


@pytest.fixture
def clock(monkeypatch):
    """Wall time that only the test moves."""
    now = [1000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])

    def move(seconds):
        now[0] += seconds
        return now[0]

    return move


def test_shares_of_one_life(tmp_path, clock):
    begun = clock(0)
    clock(10)  # restoring and compiling
    account = Goodput(str(tmp_path), 0, begun)
    clock(90)
    account.add(steps=60.0, waited=20.0)
    shares = account.record()
    assert shares["goodput"] == pytest.approx(0.6)
    assert shares["lost_to_start"] == pytest.approx(0.1)
    assert shares["lost_to_input"] == pytest.approx(0.2)
    assert set(shares) == {"goodput", *(f"lost_to_{name}" for name in goodput.LOSSES)}
    assert sum(shares.values()) <= 1.0


def test_what_a_life_had_not_saved_is_redone_and_the_time_between_is_down(tmp_path, clock):
    account = Goodput(str(tmp_path), 0, clock(0))
    clock(50)
    account.add(steps=50.0, waited=0.0)
    account.record()
    account.saving(10)
    clock(30)
    account.add(steps=30.0, waited=0.0)
    account.record()  # killed here
    begun = clock(15)
    clock(5)
    account = Goodput(str(tmp_path), 10, begun)
    shares = account.record()
    assert shares["goodput"] == pytest.approx(0.5)
    assert shares["lost_to_redone"] == pytest.approx(0.3)
    assert shares["lost_to_down"] == pytest.approx(0.15)
    assert shares["lost_to_start"] == pytest.approx(0.05)


def test_steps_between_a_record_and_a_save_are_not_lost(tmp_path, clock):
    account = Goodput(str(tmp_path), 0, clock(0))
    clock(100)
    account.add(steps=100.0, waited=0.0)
    account.record()
    clock(50)
    account.add(steps=50.0, waited=0.0)  # what the loop claims of the meter before it saves
    account.saving(150)
    shares = Goodput(str(tmp_path), 150, clock(0)).record()
    assert shares["goodput"] == pytest.approx(1.0)
    assert sum(shares.values()) == pytest.approx(1.0)


def test_a_save_that_was_not_finished_counts_as_lost(tmp_path, clock):
    account = Goodput(str(tmp_path), 0, clock(0))
    for step in (10, 20):
        clock(50)
        account.add(steps=50.0, waited=0.0)
        account.saving(step)
    shares = Goodput(str(tmp_path), 10, clock(0)).record()
    assert shares["goodput"] == pytest.approx(0.5)
    assert shares["lost_to_redone"] == pytest.approx(0.5)


def test_a_run_that_had_finished_was_not_down(tmp_path, clock):
    account = Goodput(str(tmp_path), 0, clock(0))
    clock(50)
    account.add(steps=50.0, waited=0.0)
    account.saving(10)
    account.finish()
    shares = Goodput(str(tmp_path), 10, clock(1000)).record()
    assert shares["goodput"] == pytest.approx(1.0)
    assert shares["lost_to_down"] == 0.0


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"at_saves": {"0": null}}'])
def test_a_damaged_account_is_told_and_begun_anew(tmp_path, clock, capsys, text):
    (tmp_path / goodput.FILE).write_text(text)
    account = Goodput(str(tmp_path), 5, clock(0))
    assert f"{goodput.FILE} is damaged" in capsys.readouterr().err
    clock(10)
    account.add(steps=10.0, waited=0.0)
    assert account.record()["goodput"] == pytest.approx(1.0)

"""The watch: what it says of processes that stand still."""

import time

from archobj_jax.hosts.activity import ACTIVITY, Activity
from archobj_jax.hosts.watch import Watch, stall


def pulse(phase, seconds, host="h", step=7):
    return {"phase": phase, "step": step, "seconds": seconds, "host": host}


def test_the_few_that_the_others_wait_for_are_named_first():
    pulses = {index: pulse("in a step", 300.0, f"h{index}") for index in range(4)}
    pulses[2] = pulse("waiting for input", 310.4, "h2")
    assert stall(pulses) == (
        "no progress: process 2 (h2): waiting for input at step 7 for 310 s; "
        "3 processes (0 to 3): in a step at step 7 for 300 s"
    )


def test_a_phase_begins_anew_when_what_it_held_has_ended():
    activity = Activity()
    with activity.phase("a"):
        began = activity.now.since
        time.sleep(0.01)
        with activity.phase("b"):
            assert activity.now.phase == "b"
        assert activity.now.phase == "a"
        assert activity.now.since > began
    activity.at(3)
    assert (activity.now.phase, activity.now.step) == ("starting", 3)


def test_a_stalled_phase_is_named_once_each_time_its_length_doubles(capsys):
    with ACTIVITY.phase("waiting for input"), Watch(stalled=0.5):
        time.sleep(3.6)
    lines = [line for line in capsys.readouterr().err.splitlines() if "no progress" in line]
    assert 1 <= len(lines) <= 3
    assert "waiting for input" in lines[0]


def test_a_stall_is_told_at_each_doubling_and_anew_after_something_went_on(capsys):
    watch = Watch(stalled=300.0)
    told = []
    for seconds in [*range(0, 1300, 2), 1, *range(0, 400, 2)]:
        watch._seen = {0: pulse("saving", seconds), 1: pulse("evaluation", seconds + 4)}
        watch._name_stalled()
        told += [seconds] * capsys.readouterr().err.count("no progress")
    assert told == [302, 602, 1202, 302]


def test_what_goes_on_is_not_named(capsys):
    with ACTIVITY.phase("reading"), Watch(stalled=1.5):
        for _ in range(30):
            time.sleep(0.1)
            ACTIVITY.goes_on()
    assert "no progress" not in capsys.readouterr().err

"""The watch: who has failed or fallen silent, and what it says of processes that stand still."""

import json
import os
import threading
import time

import jax
import pytest

from archobj_jax.errors import MachineError
from archobj_jax.hosts import together, watch
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


class Service:
    """JAX's key-value store, in this process."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def key_value_set(self, key: str, value: str, allow_overwrite: bool = False) -> None:
        if key in self.values and not allow_overwrite:
            raise jax.errors.JaxRuntimeError("ALREADY_EXISTS")
        self.values[key] = value

    def key_value_try_get(self, key: str) -> str:
        if key not in self.values:
            raise jax.errors.JaxRuntimeError("NOT_FOUND")
        return self.values[key]

    def key_value_dir_get(self, prefix: str) -> list[tuple[str, str]]:
        return [(k, v) for k, v in dict(self.values).items() if k.startswith(prefix)]


@pytest.fixture
def service(monkeypatch) -> Service:
    for name, seconds in (("PERIOD", 0.02), ("GRACE", 0.4), ("SILENT", 0.4)):
        monkeypatch.setattr(watch, name, seconds)
    return Service()


def of(service: Service, index: int) -> Watch:
    made = Watch()
    made._client, made._index = service, index
    return made


@pytest.fixture
def exits(monkeypatch) -> list[tuple[int, float]]:
    """What would have ended this process: status and moment; the thread that asks ends."""
    found: list[tuple[int, float]] = []

    def leave(status: int) -> None:
        found.append((status, time.monotonic()))
        raise SystemExit

    monkeypatch.setattr(os, "_exit", leave)
    return found


def until(condition, seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    assert condition()


ends_a_thread = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


@ends_a_thread
def test_a_process_without_a_pulse_ends_the_others_which_name_it(service, exits, capsys):
    silent = json.dumps({"beat": 3, "host": "h7", "phase": "saving", "step": 1, "seconds": 0.0})
    service.values["archobj/pulses/1"] = silent
    begun = time.monotonic()
    two = of(service, 2)
    two._thread.start()
    until(lambda: exits)
    assert exits[0][0] == 75
    assert exits[0][1] - begun >= 0.4
    assert "process 1 (h7) has given no sign" in capsys.readouterr().err
    two._thread.join()


@ends_a_thread
def test_a_failure_ends_the_others_with_its_status_and_process_0_last(service, exits, capsys):
    watches = [of(service, index) for index in range(3)]
    for each in watches[:2]:
        each._thread.start()
    until(lambda: "archobj/pulses/1" in service.values)
    begun = time.monotonic()
    watches[2].fail(2, "a misspelt name")
    assert time.monotonic() - begun < 0.1  # only process 0 has to outlast the others
    until(lambda: len(exits) == 2)
    assert [status for status, _ in exits] == [2, 2]
    assert exits[1][1] - exits[0][1] > 0.03
    assert capsys.readouterr().err.count("process 2 failed: a misspelt name") == 2
    for each in watches[:2]:
        each._thread.join()


@pytest.mark.parametrize(("lives", "least", "most"), [(0.0, 0.0, 0.2), (0.25, 0.25, 0.45)])
def test_process_0_outlasts_those_that_live_though_another_had_failed_before(
    service, lives, least, most
):
    of(service, 1).fail(74, "a full disk")
    two, begun = of(service, 2), time.monotonic()
    two._send(two._pulse())

    def live() -> None:
        while time.monotonic() < begun + lives:
            two._send(two._pulse())
            time.sleep(0.01)

    other = threading.Thread(target=live)
    other.start()
    of(service, 0).fail(1, "an exchange broke")
    assert least < time.monotonic() - begun < most
    other.join()
    assert json.loads(service.values["archobj/failure"])["message"] == "a full disk"


def test_an_exchange_that_breaks_is_the_fault_of_who_told_or_fell_silent(service):
    stop = threading.Event()
    broken = jax.errors.JaxRuntimeError("Gloo all-reduce failed: Connection closed by peer")

    def beat() -> None:
        one = of(service, 1)
        while not stop.wait(0.01):
            one._send(one._pulse())

    other = threading.Thread(target=beat)
    other.start()
    until(lambda: "archobj/pulses/1" in service.values)
    zero = of(service, 0)
    assert zero.cause() is None
    assert together._told(broken, zero)[0] == 1  # all others live: with its traceback
    full = MachineError("Could not save checkpoint_3: the disk is full")
    assert together._told(full, zero) == (74, f"archobj: error: {full}")
    late = jax.errors.JaxRuntimeError("Gloo context initialization failed: DEADLINE_EXCEEDED: x")
    assert together._told(late, zero)[0] == 75
    assert "though all of them live" in together._told(late, zero)[1]
    stop.set()
    other.join()
    status, why = zero.cause()
    assert (status, why.partition(":")[0]) == (75, "process 1")
    assert "another process has ended, process 1" in together._told(broken, zero)[1]
    assert together._told(full, zero)[0] == 75  # the save failed with that process
    of(service, 1).fail(2, "a misspelt name")
    assert zero.cause() == (2, "process 1: a misspelt name")

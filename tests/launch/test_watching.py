"""How long hosts are waited for, and what those that do not answer count for."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from archobj_jax.errors import MachineError
from launch.outcomes import Verdict
from launch.programs import Programs
from launch.slices import Condition
from launch.watching import Patience, watch
from launch.workers import Report, Workers
from tests.launch.conftest import hurried

READY = (Condition.READY, "READY")
REPAIRING = (Condition.WAIT, "REPAIRING")
OFFLINE = MachineError("no route to host")


def report(host: int, status: int | None) -> Report:
    return Report(f"host-{host}", "running" if status is None else "exited", status, "step 1")


RUNS = [report(0, None)]


@dataclass
class Scripted:
    """A pod of one slice: its conditions and what its hosts say, of which the last ones stay."""

    conditions: list
    answers: list
    hosts: int = 2
    name: str = "cd-flm"
    slices: int = 1
    programs: Programs = field(default_factory=hurried)

    def condition(self):
        condition = self.conditions.pop(0) if self.conditions[1:] else self.conditions[0]
        if isinstance(condition, MachineError):
            raise condition
        return condition

    def workers(self):
        return self.hosts

    def reports(self, _run, worker="all"):
        answer = self.answers.pop(0) if self.answers[1:] else self.answers[0]
        return answer[:1] if worker == "0" else answer

    def watch(self):
        return watch(self, self, Patience(poll=60, queue=100, silence=30, stragglers=10))


@pytest.mark.parametrize("away", [REPAIRING, OFFLINE])
def test_silence_is_counted_from_when_the_slice_is_ready_again(away):
    back = [[]] * 20 + [RUNS] + [[report(0, 0), report(1, 0)]]
    pod = Scripted([READY] + [away] * 40 + [READY], [RUNS, *back])
    assert pod.watch().verdict is Verdict.DONE


def test_silence_is_not_for_ever():
    with pytest.raises(MachineError, match="no worker of cd-flm has answered for 30 minutes"):
        Scripted([READY], [RUNS, []]).watch()
    with pytest.raises(MachineError, match="for 100 minutes: REPAIRING"):
        Scripted([READY, REPAIRING], [RUNS]).watch()


def test_hosts_that_do_not_answer_at_the_end_are_asked_again():
    first, both = [report(0, 0)], [report(0, 0), report(1, 0)]
    assert Scripted([READY], [RUNS, first, first, first, both]).watch().verdict is Verdict.DONE


def test_a_host_that_never_answers_is_not_taken_for_done(capsys):
    outcome = Scripted([READY], [RUNS, [report(0, 0)]], hosts=16).watch()
    assert outcome.verdict is Verdict.AGAIN
    assert "15 workers do not answer" in capsys.readouterr().out


def test_a_set_up_may_take_hours_and_a_stop_its_grace():
    asked = []

    def ask_all(commands, more=0):
        asked.append(more)
        return [None for _ in commands]

    programs = SimpleNamespace(ask_all=ask_all)
    pod = SimpleNamespace(programs=programs, nodes=["a"], tpus=lambda *words: list(words))
    workers = Workers(pod)
    workers.set_up("repository", "commit")
    workers.stop("run", grace=600)
    workers.reports("run")
    assert asked == [2 * 60 * 60, 600, 0]

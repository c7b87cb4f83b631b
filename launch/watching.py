"""A run on a pod until it is done: made anew when the pod is taken away, ended when it must be."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from shlex import join

from archobj_jax.errors import PREEMPTED, MachineError, UserError
from launch.outcomes import Outcome, Verdict, judge
from launch.slices import Condition, Pod
from launch.workers import Report, Workers

_LOST = Outcome(Verdict.AGAIN, PREEMPTED, "the slice was taken away")


@dataclass(frozen=True)
class Patience:
    """How long and how often.

    Attributes:
        poll: seconds between looks.
        queue: minutes to wait for the slices.
        silence: minutes that hosts may be out of reach although gcloud calls them ready.
        stragglers: minutes that hosts may go on when others have ended.
        restarts: at most, of all kinds.
        crashes: at most, one after the other, of processes killed while the slice was there.
    """

    poll: float = 60
    queue: float = 24 * 60
    silence: float = 30
    stragglers: float = 10
    restarts: int = 100
    crashes: int = 3


def until_done(
    pod: Pod,
    workers: Workers,
    command: Sequence[str],
    commit: str,
    set_up: Callable[[], None],
    patience: Patience,
) -> int:
    """Has the pod, its set-up and the run; starts again while the statuses ask for it.

    Attaches to the run if it is running already. Returns the exit status of the run.

    Raises:
        UserError: what is running under the name is another command, or of another commit.
        MachineError: the pod was not to be had, or restarts were too many.
    """
    say = pod.programs.say
    crashes = 0
    for _ in range(patience.restarts + 1):
        pod.ensure(minutes=patience.queue, poll=patience.poll)
        try:
            _started(pod, workers, command, commit, set_up)
            if pod.programs.dry_run:
                workers.reports(pod.name, worker="0")
                say(f"(then asks every {patience.poll:g} s until the run ends; if the slice is "
                    "taken away, deletes it and begins again)")  # fmt: skip
                return 0
            outcome = watch(pod, workers, patience)
        except MachineError:
            # A slice may be taken away at any moment, when workers no longer do what they are told.
            if pod.condition()[0] in (Condition.READY, Condition.ABSENT):
                raise
            outcome = _LOST
        say(f"{pod.name}: {outcome.verdict.value}: {outcome.why} (exit status {outcome.status})")
        crashes = crashes + 1 if outcome.verdict is Verdict.CRASHED else 0
        if outcome.verdict not in (Verdict.AGAIN, Verdict.CRASHED):
            return outcome.status
        if crashes > patience.crashes:
            raise MachineError(
                f"{pod.name} crashed {crashes} times in a row, more than --max_crashes: see `logs`."
            )
    raise MachineError(f"{patience.restarts} restarts were not enough; --max_restarts allows more.")


def _started(
    pod: Pod,
    workers: Workers,
    command: Sequence[str],
    commit: str,
    set_up: Callable[[], None],
) -> None:
    """Has the run running on all workers, as it may be already."""
    reports = workers.reports(pod.name) or []
    running = [report for report in reports if report.state == "running"]
    check_same(pod.name, running, command, commit)
    if running and len(running) == len(reports):
        pod.programs.say(f"{pod.name}: is running already")
        return
    if running:  # beside others that are not: they could not take part
        workers.stop(pod.name, grace=60)
    set_up()
    workers.start(pod.name, command)


def check_same(
    run: str, running: Sequence[Report], command: Sequence[str], commit: str = ""
) -> None:
    """Checks that what is running under a name is what is asked for.

    Args:
        run: its name.
        running: what the hosts say on which it is running.
        command: what is asked for.
        commit: of it; empty for any.

    Raises:
        UserError: it is another.
    """
    for report in running:
        if report.command != tuple(command):
            running_now, asked = join(report.command), join(command)
        elif commit and report.commit != commit:
            running_now, asked = (f"commit {each[:12]}" for each in (report.commit, commit))
        else:
            continue
        raise UserError(
            f"under the name {run}, something else is running: `{running_now}`, not `{asked}`. "
            "Give that to attach to it; or `stop` it first, or take another --name."
        )


def watch(pod: Pod, workers: Workers, patience: Patience) -> Outcome:
    """Follows a started run to its end.

    Raises:
        MachineError: its hosts are out of reach for longer than `patience.silence`.
    """
    clock, sleep, say = pod.programs.clock, pod.programs.sleep, pod.programs.say
    ready, since, said, lost = True, clock(), "", 0  # since: it is so, or its hosts answered
    while True:
        try:
            condition, why = pod.condition()
        except MachineError as error:  # this machine may be offline; the run goes on without it
            condition, why = Condition.WAIT, str(error)
        if condition is Condition.ABSENT:
            raise MachineError(f"{pod.name} was deleted while it ran; nothing is asked for anew.")
        lost = lost + 1 if condition is Condition.LOST else 0
        if lost > 1:
            return _LOST
        if ready is not (condition is Condition.READY):
            ready, since = not ready, clock()
        if not ready:
            # A slice that comes back by itself has rebooted: its hosts then say that they are dead.
            if why != said:
                said = why
                say(f"{pod.name}: {why}")
            if clock() - since > 60 * patience.queue:
                raise MachineError(f"{pod.name}: for {patience.queue:g} minutes: {why}")
            sleep(patience.poll)
            continue
        # The first host of each slice tells of all: when one process ends, the others do.
        reports = workers.reports(pod.name, worker="0") or []
        if len(reports) == pod.slices:
            since = clock()
            if any(report.state != "running" for report in reports):
                return judge(_ended(pod, workers, patience))
            if reports[0].last_line != said:
                said = reports[0].last_line
                say(f"{pod.name}: {said}")
        elif clock() - since > 60 * patience.silence:
            raise MachineError(
                f"no worker of {pod.name} has answered for {patience.silence:g} minutes, though "
                "gcloud calls the slice ready. The same command goes on watching; if ssh does not "
                "work by hand either, `delete` first."
            )
        sleep(patience.poll)


def _ended(pod: Pod, workers: Workers, patience: Patience) -> list[int | None]:
    """Statuses of all hosts, none of which runs any more; None of those that do not answer."""
    end = pod.programs.clock() + 60 * patience.stragglers
    while True:
        reports = workers.reports(pod.name) or []
        running = [report.host for report in reports if report.state == "running"]
        missing = max(0, pod.workers() - len(reports))
        late = pod.programs.clock() >= end
        if not running and (late or not missing):
            break
        if late:
            pod.programs.say(f"{pod.name}: stops {', '.join(running)}, which did not end")
            workers.stop(pod.name, grace=60)
        else:
            pod.programs.sleep(patience.poll)
    if missing:
        pod.programs.say(f"{pod.name}: {missing} workers do not answer")
    return [*(report.status for report in reports), *[None] * missing] or [None]

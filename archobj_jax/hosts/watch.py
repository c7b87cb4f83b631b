"""The watch: ends this process when another has failed, and names what stands still.

Processes tell each other through the key-value store of JAX's coordination service, which process 0
serves: every `PERIOD` seconds a pulse (what each is doing), and a failure with its cause.
"""

import contextlib
import json
import os
import socket
import sys
import threading
import time
from typing import Any

import jax
from jax._src import distributed  # no public name gives the coordination service's client

from archobj_jax.errors import PREEMPTED
from archobj_jax.hosts.activity import ACTIVITY, IDLE

PERIOD = 1.0
"""Seconds between pulses."""

SILENT = 30.0
"""Seconds without a pulse after which a process is taken for dead."""

GRACE = 5.0
"""Seconds that a process has to end by itself once another has failed."""

STALLED = 300.0
"""Seconds after which the watch names what stands still; then at twice as many, and so on."""

_ALL = "archobj/"
_FAILURE = f"{_ALL}failure"
_PULSES = f"{_ALL}pulses/"


class Watch:
    """A thread beside the run; entered once a process has joined the others, or is alone."""

    def __init__(self, *, stalled: float = STALLED) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="watch")
        self._client: Any = distributed.global_state.client
        self._index = distributed.global_state.process_id
        self._heard: dict[int, tuple[int, float]] = {}
        self._seen: dict[int, dict[str, Any]] = {}
        self._stalled = self._patience = stalled
        self._beat = 0

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._client is not None:
            with contextlib.suppress(jax.errors.JaxRuntimeError):  # process 0 may have left before
                self._send({"left": True})

    def fail(self, status: int, message: str) -> None:
        """Tells all others that this process ends with `status`, and why; they end too."""
        self._stop.set()
        if self._client is None:
            return
        cause = json.dumps({"process": self._index, "status": status, "message": message})
        # Another may have failed before, or process 0 be gone: then the others know.
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            self._client.key_value_set(_FAILURE, cause)
        self._outlast()

    def _outlast(self) -> None:
        """Has process 0, with which the service ends, end after the others: JAX aborts the rest."""
        end = time.monotonic() + GRACE + 5 * PERIOD
        before: dict[int, int] | None = None
        while self._index == 0 and time.monotonic() < end:
            beats = {process: beat for process, beat in self._beats().items() if process > 0}
            if beats == before:
                return
            before = beats
            time.sleep(3 * PERIOD)

    def cause(self) -> tuple[int, str] | None:
        """Status and reason of another process's end, if one told it or has fallen silent.

        Waits for that a little, since an exchange breaks before a pulse is missed.
        """
        if self._client is None:
            return None
        before = self._beats()
        end = time.monotonic() + 6 * PERIOD
        while time.monotonic() < end:
            with contextlib.suppress(jax.errors.JaxRuntimeError):
                failure = json.loads(self._client.key_value_try_get(_FAILURE))
                return failure["status"], f"process {failure['process']}: {failure['message']}"
            time.sleep(PERIOD / 10)
        for process, beat in self._beats().items():
            if process != self._index and before.get(process) == beat:
                return PREEMPTED, f"process {process}: killed perhaps; else its log says why"
        return None

    def _beats(self) -> dict[int, int]:
        """The last pulse's number of every process; of process 0 alone if it cannot be asked."""
        try:
            found = self._client.key_value_dir_get(_PULSES)
        except jax.errors.JaxRuntimeError:
            return {0: -1}
        return {
            int(key.rpartition("/")[2]): json.loads(text).get("beat", -1) for key, text in found
        }

    def _watch(self) -> None:
        while not self._stop.wait(PERIOD):
            if self._client is not None:
                try:
                    self._exchange()
                except jax.errors.JaxRuntimeError as error:
                    if self._stop.is_set():
                        return
                    self._end(0, PREEMPTED, f"is gone ({str(error).splitlines()[0]})")
            else:
                self._seen = {0: self._pulse()}
            self._name_stalled()

    def _send(self, pulse: dict[str, Any]) -> None:
        key = f"{_PULSES}{self._index}"
        self._client.key_value_set(key, json.dumps(pulse), allow_overwrite=True)

    def _pulse(self) -> dict[str, Any]:
        now = ACTIVITY.now
        self._beat += 1
        return {
            "beat": self._beat,
            "host": socket.gethostname(),
            "phase": now.phase,
            "step": now.step,
            "seconds": time.monotonic() - now.since,
        }

    def _exchange(self) -> None:
        """Sends this process's pulse, reads those of the others."""
        self._send(self._pulse())
        found = {key: json.loads(text) for key, text in self._client.key_value_dir_get(_ALL)}
        failure = found.pop(_FAILURE, None)
        if failure is not None:
            self._end(failure["process"], failure["status"], f"failed: {failure['message']}")
        pulses = {int(key.rpartition("/")[2]): pulse for key, pulse in found.items()}
        self._seen = {process: pulse for process, pulse in pulses.items() if not pulse.get("left")}
        now = time.monotonic()
        for process, pulse in self._seen.items():
            beat, at = self._heard.get(process, (-1, now))
            self._heard[process] = (beat, at) if beat == pulse["beat"] else (pulse["beat"], now)
            if now - self._heard[process][1] > SILENT:
                self._end(process, PREEMPTED, f"has given no sign for {SILENT:.0f} s")

    def _end(self, process: int, status: int, what: str) -> None:
        """Ends this process, if it does not do so by itself (it may fail for the same reason)."""
        end = time.monotonic() + GRACE
        while time.monotonic() < end:
            if self._stop.wait(PERIOD):
                return
            with contextlib.suppress(jax.errors.JaxRuntimeError):
                self._send(self._pulse())  # for process 0, which waits for those that live
        host = self._seen.get(process, {}).get("host")
        of = f"process {process}" + (f" ({host})" if host else "")
        print(
            f"archobj: error: {of} {what}\nProcess {self._index} ends with it; what was saved is "
            "intact.",
            file=sys.stderr,
            flush=True,
        )
        self._outlast()
        os._exit(status)

    def _name_stalled(self) -> None:
        """Process 0 says what every process has been doing for longer than is usual."""
        if self._index > 0 or not self._seen:
            return
        pulses = self._seen.values()
        if any(pulse["phase"] == IDLE for pulse in pulses):
            return
        shortest = min(pulse["seconds"] for pulse in pulses)
        if shortest <= self._stalled:  # something goes on
            self._patience = self._stalled
        elif shortest > self._patience:
            self._patience *= 2
            print(f"archobj: {stall(self._seen)}", file=sys.stderr, flush=True)


def stall(pulses: dict[int, dict[str, Any]]) -> str:
    """One line that names what stands still, the processes that the others wait for first."""
    phases: dict[tuple[str, int], list[int]] = {}
    for process, pulse in sorted(pulses.items()):
        phases.setdefault((pulse["phase"], pulse["step"]), []).append(process)
    # All but those that are to blame wait in the same exchange: the few are named first.
    parts = []
    for (phase, step), processes in sorted(phases.items(), key=lambda item: len(item[1])):
        first = pulses[processes[0]]
        who = f"process {processes[0]} ({first['host']})"
        if len(processes) > 1:
            who = f"{len(processes)} processes ({processes[0]} to {processes[-1]})"
        at = f" at step {step:,}" if step else ""
        parts.append(f"{who}: {phase}{at} for {first['seconds']:.0f} s")
    return "no progress: " + "; ".join(parts)

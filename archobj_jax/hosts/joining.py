"""How a process finds the others of its run: by flags, by variables, or as the cluster says."""

import contextlib
import dataclasses
import glob
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping

from archobj_jax.errors import PREEMPTED, MachineError, UserError

VARIABLES = {
    "coordinator_address": "JAX_COORDINATOR_ADDRESS",
    "process_count": "JAX_NUM_PROCESSES",
    "process_index": "JAX_PROCESS_ID",
}
"""What stands for a flag that is not given; JAX's own names."""

HEARTBEAT_TIMEOUT = 100
"""Seconds of silence after which JAX ends all others, by SIGABRT; `watch.SILENT` comes before."""

_SLURM = (
    "SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID"
)  # fmt: skip
_OPEN_MPI = "OMPI_MCA_orte_hnp_uri"
TPU_DEVICES = ("/dev/accel*", "/dev/vfio/[0-9]*")
"""Files of TPUs; /dev/vfio/vfio is there on any Linux."""


@dataclasses.dataclass(frozen=True)
class Place:
    """This process among those of its run.

    Attributes:
      coordinator: HOST:PORT at which process 0 listens.
      count: of processes.
      index: of this one, from 0.
    """

    coordinator: str
    count: int
    index: int


def join(flags: Mapping[str, object], *, timeout: float) -> bool:
    """Makes this process one of several, if it is; must come before any device is asked for.

    In this order: the flags; the variables `VARIABLES`; what JAX detects on Slurm, under Open MPI
    and on TPU VMs (their metadata, or what GKE sets). Nothing of these is one process.

    Args:
      flags: coordinator_address, process_count and process_index, or None each.
      timeout: seconds to wait for the others.

    Returns:
      Whether it joined others.

    Raises:
      UserError: the flags or variables do not say all, or not what they must.
      MachineError: process 0 cannot be reached in time.
      SystemExit: not all came in time (the process ends with `PREEMPTED`).
    """
    import jax

    place = told_place(flags)
    if place is None and not _detectable():
        return False
    # Processes on CPUs exchange arrays by gloo; other platforms have their own ways.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    if place is None:
        with _bounded(timeout, "the other processes that the cluster names"):
            jax.distributed.initialize(
                initialization_timeout=_later(timeout), heartbeat_timeout_seconds=HEARTBEAT_TIMEOUT
            )
        return jax.process_count() > 1
    if place.count == 1:
        return False
    begun = time.monotonic()
    if place.index > 0:
        _reach(place, timeout)
    others = f"all {place.count} processes at {place.coordinator}"
    with _bounded(timeout - (time.monotonic() - begun), others):
        jax.distributed.initialize(
            place.coordinator,
            place.count,
            place.index,
            cluster_detection_method="deactivate",
            initialization_timeout=_later(timeout),
            heartbeat_timeout_seconds=HEARTBEAT_TIMEOUT,
        )
    return True


def told_place(flags: Mapping[str, object]) -> Place | None:
    """The place by flags or variables; None if they say nothing, or leave it to the cluster.

    Raises:
      UserError: they do not say all, or not what they must.
    """
    values: dict[str, str] = {}
    for name, variable in VARIABLES.items():
        if flags.get(name) is not None:
            values[name] = str(flags[name])
        elif os.environ.get(variable):
            values[name] = os.environ[variable]
    names = {name: f"--{name} ({VARIABLES[name]})" for name in VARIABLES}
    missing = [names[name] for name in VARIABLES if name not in values]
    flagged = any(flags.get(name) is not None for name in VARIABLES)
    if not values or (missing and not flagged and _detectable()):
        return None
    if missing:
        raise UserError(
            f"{', '.join(names[name] for name in values)} given without {', '.join(missing)}: a "
            "run of several processes needs all three."
        )
    numbers = {}
    for name in ("process_count", "process_index"):
        if not values[name].isdecimal():
            raise UserError(f"{names[name]} = {values[name]}: expected a whole number from 0.")
        numbers[name] = int(values[name])
    count, index = numbers["process_count"], numbers["process_index"]
    if index >= count:
        raise UserError(f"{names['process_index']} = {index}: must be below the count, {count}.")
    host, _, port = values["coordinator_address"].rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UserError(
            f"{names['coordinator_address']} = {values['coordinator_address']}: expected "
            "HOST:PORT of process 0."
        )
    return Place(values["coordinator_address"], count, index)


def _detectable() -> bool:
    """Whether JAX will find out by itself; it is not asked elsewhere, since it may use networks."""
    if all(name in os.environ for name in _SLURM):
        return int(os.environ["SLURM_NTASKS"]) > 1
    if _OPEN_MPI in os.environ:
        return True
    return on_tpus()


def on_tpus() -> bool:
    """Whether this machine has TPUs, and JAX may use them; asks no driver and no network."""
    wanted = os.environ.get("JAX_PLATFORMS", "tpu").startswith("tpu")
    return wanted and any(glob.glob(pattern) for pattern in TPU_DEVICES)


def _later(timeout: float) -> int:
    """JAX's own limit, which ends the process with a stack trace: after ours."""
    return int(timeout) + 60


def _reach(place: Place, timeout: float) -> None:
    """Waits until process 0 listens."""
    host, _, port = place.coordinator.rpartition(":")
    end = time.monotonic() + timeout
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > end:
                raise MachineError(
                    f"process {place.index} has not reached process 0 at {place.coordinator} in "
                    f"{timeout:g} s ({error}). Start process 0 too, or name its address by "
                    "--coordinator_address; --join_timeout waits longer.",
                    status=PREEMPTED,
                ) from error
            time.sleep(0.2)


@contextlib.contextmanager
def _bounded(timeout: float, awaited: str) -> Iterator[None]:
    """Ends the process with a message if the body, which no exception can end, takes longer."""

    def end() -> None:
        print(
            f"archobj: error: waited for {awaited}, and they have not come in time. Start those "
            "that are missing, then all again; --join_timeout waits longer.",
            file=sys.stderr,
            flush=True,
        )
        os._exit(PREEMPTED)

    timer = threading.Timer(max(timeout, 1.0), end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()

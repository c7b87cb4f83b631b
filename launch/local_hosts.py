"""`launch/local`: several processes on this machine, each a host of one run."""

import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from archobj_jax.errors import UserError
from launch import flags
from launch.flags import Flag
from launch.outcomes import judge
from launch.programs import reported

PROGRAM = "launch/local"

ABOUT = """\
Runs a command in several processes on this machine, which are the hosts of one run: on CPUs, unless
JAX_PLATFORMS says otherwise. The first one's output is shown as it is, the others' lines by number.
Ctrl-C and SIGTERM have all of them save and stop, a second one kills; when one fails, the others
have --grace seconds to end.

  launch/local --processes=2 --devices=2 -- archobj train \\
    --gin_file=t5x_configs/experiments/tiny/cd_flm.gin --gin.MODEL_DIR=runs/two \\
    --gin.partitioner.Partitioner.fsdp=4"""

FLAGS = {
    "processes": Flag("how many (2)", int, 2),
    "devices": Flag("CPU devices that each process sees (1)", int, 1),
    "grace": Flag("seconds that processes may go on after one has failed (120)", float, 120.0),
}

_READER = "output of process"
_ROOT = Path(__file__).resolve().parents[1]


def main(arguments: Sequence[str]) -> int:
    """Runs the command in all processes; returns the exit status that speaks for all."""
    return reported(lambda: _main(arguments), PROGRAM)


def _main(arguments: Sequence[str]) -> int:
    _, values, command = flags.parse(
        arguments, program=PROGRAM, about=ABOUT, flags=FLAGS, subcommands={}, needs_command=("",)
    )
    for name in ("processes", "devices"):
        if values[name] < 1:
            raise UserError(f"--{name}={values[name]}: at least 1.")
    port = _free_port()
    environments = [
        environment(index, values["processes"], port, values["devices"])
        for index in range(values["processes"])
    ]
    if command[0] == "archobj":
        command = [_archobj(), *command[1:]]
    if values["dry_run"]:
        for variables in environments:
            print("+", shlex.join(["env", *(f"{k}={v}" for k, v in variables.items()), *command]))
        return 0
    processes = [_start(index, command, variables) for index, variables in enumerate(environments)]
    for index, process in enumerate(processes):
        print(f"{PROGRAM}: process {index} is {process.pid}", file=sys.stderr, flush=True)
    with _forwarded(processes):
        statuses = _wait(processes, values["grace"])
    return judge(statuses).status


def environment(index: int, count: int, port: int, devices: int) -> dict[str, str]:
    """The variables that make a process host `index` of `count`, with so many CPU devices."""
    others = [
        flag
        for flag in os.environ.get("XLA_FLAGS", "").split()
        if not flag.startswith("--xla_force_host_platform_device_count")
    ]
    return {
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
        "JAX_COORDINATOR_BIND_ADDRESS": f"127.0.0.1:{port}",
        "JAX_NUM_PROCESSES": str(count),
        "JAX_PROCESS_ID": str(index),
        "JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS", "cpu"),
        "PYTHONPATH": os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "XLA_FLAGS": " ".join([*others, f"--xla_force_host_platform_device_count={devices}"]),
    }


def _archobj() -> str:
    """The command, from PATH or as `make install` installs it."""
    for folders in (None, str(_ROOT / ".venv/bin")):  # None: those of PATH
        found = shutil.which("archobj", path=folders)
        if found:
            return found
    raise UserError("archobj is not installed: `make install` installs it.")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _start(
    index: int, command: Sequence[str], variables: dict[str, str]
) -> "subprocess.Popen[bytes]":
    shown = {} if index == 0 else {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    try:
        process: subprocess.Popen[bytes] = subprocess.Popen(
            command,
            env=os.environ | variables,
            stdin=subprocess.DEVNULL,
            stdout=shown.get("stdout"),
            stderr=shown.get("stderr"),
            process_group=0,  # out of the terminal's reach: `_forwarded` says what Ctrl-C does
        )
    except FileNotFoundError:
        raise UserError(f"{command[0]} is not installed here, or not in PATH.") from None
    if shown:
        name = f"{_READER} {index}"
        threading.Thread(target=_show, args=(index, process), daemon=True, name=name).start()
    return process


def _show(index: int, process: "subprocess.Popen[bytes]") -> None:
    assert process.stdout is not None
    for line in process.stdout:
        sys.stderr.buffer.write(b"[%d] %s" % (index, line))
        sys.stderr.buffer.flush()


@contextlib.contextmanager
def _forwarded(processes: Sequence["subprocess.Popen[bytes]"]) -> Iterator[None]:
    """SIGTERM and Ctrl-C reach all processes as SIGTERM, upon which they save; again, they kill."""
    signals = [signal.SIGTERM]

    def pass_on(_number: int, _frame: object) -> None:
        for process in processes:
            process.send_signal(signals[-1])
        signals.append(signal.SIGKILL)

    previous = {
        number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _wait(processes: Sequence["subprocess.Popen[bytes]"], grace: float) -> list[int]:
    """Exit statuses of all, 128 + the signal of those killed, as a shell has them."""
    end = None
    while None in [process.poll() for process in processes]:  # polls all
        failed = [process for process in processes if process.returncode not in (None, 0)]
        if failed and end is None:
            end = time.monotonic() + grace
        if end is not None and time.monotonic() > end:
            stuck = [i for i, process in enumerate(processes) if process.poll() is None]
            print(
                f"{PROGRAM}: kills {', '.join(f'process {i}' for i in stuck)}: another has failed "
                f"{grace:g} seconds ago",
                file=sys.stderr,
            )
            for index in stuck:
                processes[index].kill()
                processes[index].wait()
        time.sleep(0.05)
    for index, process in enumerate(processes):
        if process.returncode < 0:
            name = signal.Signals(-process.returncode).name
            print(f"{PROGRAM}: process {index} was ended by {name}", file=sys.stderr)
    for thread in threading.enumerate():  # last lines may still be on their way
        if thread.name.startswith(_READER):
            thread.join(timeout=1.0)
    return [code if code >= 0 else 128 - code for code in (p.returncode for p in processes)]

"""Processes of stages: their status, signals, and the lock that they keep."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from archobj_jax.errors import MachineError
from archobj_jax.study import execution


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Has `execute` run a Python program in place of archobj."""

    def put(text: str) -> None:
        package = tmp_path / "archobj_jax"
        package.mkdir(exist_ok=True)
        (package / "__init__.py").write_text("")
        (package / "__main__.py").write_text(text)

    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return put


def execute(tmp_path, lock, progress=lambda: None, arguments=()):
    return execution.execute(
        list(arguments),
        log=tmp_path / "log.txt",
        lock=lock,
        environment=dict(os.environ),
        progress=progress,
    )


def test_the_status_and_what_was_printed_are_kept(tmp_path, program):
    program("import sys; print('hello', sys.argv[1]); sys.exit(74)")
    with execution.only_one(tmp_path / "stage", lambda: None) as lock:
        assert execute(tmp_path, lock, arguments=["world"]) == 74
    assert (tmp_path / "log.txt").read_text() == "hello world\n"


def test_a_signal_is_a_negative_status(tmp_path, program):
    program("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with execution.only_one(tmp_path / "stage", lambda: None) as lock:
        assert execute(tmp_path, lock) == -9


def signals(ready, *numbers):
    """Starts to send this process the signals, once there is a file."""

    def send() -> None:
        while not ready.exists():
            time.sleep(0.05)
        for number in numbers:
            os.kill(os.getpid(), number)
            time.sleep(0.2)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_to_stop_is_passed_on_and_waited_for(tmp_path, program, number, status):
    program(
        "import signal, sys, time\n"
        "def save(*_):\n    time.sleep(0.5)\n"
        f"    open({str(tmp_path / 'saved')!r}, 'w')\n    sys.exit(75)\n"
        f"signal.signal({int(number)}, save)\n"
        f"open({str(tmp_path / 'ready')!r}, 'w')\n"
        "time.sleep(60)\n"
    )

    thread = signals(tmp_path / "ready", number)
    with (
        execution.only_one(tmp_path / "stage", lambda: None) as lock,
        pytest.raises(execution.StoppedError) as stopped,
    ):
        execute(tmp_path, lock)
    thread.join()
    assert stopped.value.status == status
    assert stopped.value.ended == 75
    assert (tmp_path / "saved").exists()


def test_a_second_signal_is_passed_on_too(tmp_path, program):
    program(
        "import os, signal, sys, time\n"
        "def first(*_):\n    signal.signal(signal.SIGINT, lambda *_: os._exit(3))\n"
        f"signal.signal({int(signal.SIGINT)}, first)\n"
        f"open({str(tmp_path / 'ready')!r}, 'w')\n"
        "for _ in range(200):\n    time.sleep(0.1)\n"
    )

    thread = signals(tmp_path / "ready", signal.SIGINT, signal.SIGINT)
    with (
        execution.only_one(tmp_path / "stage", lambda: None) as lock,
        pytest.raises(execution.StoppedError) as stopped,
    ):
        execute(tmp_path, lock)
    thread.join()
    assert (stopped.value.status, stopped.value.ended) == (130, 3)


def test_progress_that_raises_ends_neither_the_stage_nor_the_run(tmp_path, program):
    program(f"import time; time.sleep(1.5); open({str(tmp_path / 'ended')!r}, 'w')")
    calls = []

    def fails() -> None:
        calls.append(None)
        raise OSError("the terminal is gone")

    with execution.only_one(tmp_path / "stage", lambda: None) as lock:
        assert execute(tmp_path, lock, progress=fails) == 0
    assert calls
    assert (tmp_path / "ended").exists()


def test_a_process_that_outlives_its_runner_keeps_the_lock(tmp_path):
    """The second waits until the orphan of the first, which was killed, has ended."""
    folder, ended = tmp_path / "stage", tmp_path / "ended"
    orphan = f"import time; time.sleep(2); open({str(ended)!r}, 'w')"
    text = (
        "import os, subprocess, sys\n"
        "from pathlib import Path\n"
        "from archobj_jax.study import execution\n"
        f"with execution.only_one(Path({str(folder)!r}), lambda: None) as lock:\n"
        f"    subprocess.Popen([sys.executable, '-c', {orphan!r}], pass_fds=[lock])\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", text], check=False)
    waits = []
    with execution.only_one(folder, lambda: waits.append(ended.exists())):
        assert ended.exists()
    assert waits
    assert not waits[0]


def test_whether_a_stage_is_at_work_is_seen_without_making_or_keeping_anything(tmp_path):
    folder = tmp_path / "stage"
    assert not execution.is_at_work(folder)
    assert not folder.exists()
    with execution.only_one(folder, None):
        assert execution.is_at_work(folder)
    assert not execution.is_at_work(folder)
    with execution.only_one(folder, None):
        pass


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(MachineError, match="file/stage cannot be written"),
        execution.only_one(tmp_path / "file" / "stage", None),
    ):
        pass
